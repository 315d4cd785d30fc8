"""ASGI middleware around the whole service: the access log and the limit on bodies."""
