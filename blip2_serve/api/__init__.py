"""The HTTP layer: request bodies, fields, limits, error answers and the OpenAPI page."""
