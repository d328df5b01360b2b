"""Below the application: TCP connections, and HTTP within bounds, which uvicorn answers."""
