"""The Grafana boards as code: `python -m dashboards.src` writes them to dashboards/boards.

A board is a list of rows of panels; a panel is made by a function of `panels`, its queries by
`queries`. The JSON files are committed, and a test holds them to what this package makes.
"""
