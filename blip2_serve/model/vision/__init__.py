"""The vision half, written out: ViT, Q-Formers, and the encoder that makes image tokens with them."""
