"""How much is taken on, and in whose turn."""
