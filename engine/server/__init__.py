"""HTTP and websocket, the top layer."""
