"""BLIP-2's first-stage heads: a picture's and a text's unit vectors, and the probability that they match."""
