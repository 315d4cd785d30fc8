"""ASGI middleware around the whole service: limits, logs, one shape for errors, the pages that document it."""
