"""The ways in for viewers and for people who run a replica: sockets, pages, the admin port."""
