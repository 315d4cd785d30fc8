"""The verbs of the retrieval heads."""
