"""The Python client: publishers for backends, a viewer for programs that wait for an operation.

Publishers write to Redis directly, through the same script as the gateway; a viewer speaks the
viewer protocol over WebSockets. Nothing here needs a gateway's settings.
"""
