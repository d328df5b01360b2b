"""The admin port: health, metrics and debug endpoints."""
