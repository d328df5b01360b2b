"""Replicas from their start to their end."""
