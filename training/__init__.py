"""Draws labelled pictures of coloured shapes and trains the small checkpoints in `blip2_serve/checkpoints/` on them."""
