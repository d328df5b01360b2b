"""A chat whose answers are token streams, watched in the browser."""
