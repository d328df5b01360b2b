"""Logs, metrics and traces of a replica."""
