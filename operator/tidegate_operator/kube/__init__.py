"""The Kubernetes API: every call that the operator makes, what the Role must allow, and records."""
