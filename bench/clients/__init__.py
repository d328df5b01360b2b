"""Measures the browser client beside centrifuge-js and socket.io-client, each on its own server.

`python -m bench.clients`. All are given the same updates at the same pace, and each page does the
same with them (`js/page.js`), in the same Chromium. Ratios, not absolute figures.
"""
