"""ASGI middleware around the whole service: byte limits, the access log, answers that are held and rewritten."""
