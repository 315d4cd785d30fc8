"""Texts with what they are worth: several captions of a picture, and given answers to choose from."""
