"""The Python client: publishers and the viewer, on real servers."""
