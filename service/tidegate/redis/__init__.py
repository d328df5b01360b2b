"""Everything that talks to Redis; the only place where a Redis library is imported.

The path of an entry starts in `link` (bytes from the server), goes through `dispatcher` (doorbell,
dispatch, relay) and leaves to the core as records. `primary` keeps the link, `feed` routes
operations to primaries, `topology` finds them, `log` reads history.
"""
