"""From logits to text: the next token, the end of a row, and the text as it grows."""
