"""What the retrieval heads do for a caller."""
