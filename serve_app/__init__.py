"""The HTTP front end: FastAPI over the Service, on Ray Serve or any ASGI server. No decisions of its own."""
