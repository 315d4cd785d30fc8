"""Checkpoints as others name and keep them: LAVIS, transformers before 4.46, pickled weights."""
