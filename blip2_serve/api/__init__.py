"""HTTP in, HTTP out: bodies, fields, limits, errors and the OpenAPI page."""
