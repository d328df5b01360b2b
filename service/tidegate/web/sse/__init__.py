"""Server-sent events: the frames of a socket over plain HTTP."""
