"""The OpenAPI document: bodies, answers, errors, examples and probes as plain dictionaries. Only `pages` does HTTP."""
