"""Metrics and logs of a replica."""
