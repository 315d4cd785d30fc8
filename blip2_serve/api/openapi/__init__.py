"""The OpenAPI document, part by part, and the middleware that serves it."""
