"""WebSockets: the handshake, sockets for one operation and for many, and what goes over them."""
