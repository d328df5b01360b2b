"""The page of ``tidegate run``, and the way to start an operation from it.

Mounted only when ``server.demo`` is set.
"""
