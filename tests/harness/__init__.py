"""The gateway as a whole: what tests on real sockets share, and tests of its viewers.

`replica` is a gateway in this event loop, `viewer` a client that checks the contract while it
reads, `raw_viewer` one that does only what it is told, `backend` publishes with plain XADD.
"""
