"""Real servers for tests and benches: started, hurt, and ended for certain.

`process` runs anything on a leash, `standalone`, `cluster` and `sentinel` are Redis-compatible
servers made from the programs that `binaries` found, `proxy` stands in a connection's way, `tls`
makes certificates. Nothing here is bound to an event loop except `proxy`, so that one server can
serve many tests. What is missing on a machine is reported by name, never worked around.
"""
