"""Tidegate: viewers watch long-running operations live, on any number of replicas.

Layers point one way and import-linter checks it:
cli > runtime > gateway > web | redis | telemetry > core > model.
"""

__version__ = "0.1.0"
