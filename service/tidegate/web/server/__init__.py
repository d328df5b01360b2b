"""Below the application: TCP connections and HTTP as uvicorn speaks it, within bounds."""
