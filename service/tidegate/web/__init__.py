"""The public port for viewers and the admin port for operators: sockets, event streams, HTTP,
pages.
"""
