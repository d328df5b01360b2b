"""The admin port: health, metrics, and a look inside."""
