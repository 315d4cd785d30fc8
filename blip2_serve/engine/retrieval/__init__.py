"""Requests to the retrieval heads: pictures and texts as vectors, and pairs of them compared."""
