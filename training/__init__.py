"""Draws labelled pictures of coloured shapes and trains the small checkpoints in `checkpoints/` on them."""
