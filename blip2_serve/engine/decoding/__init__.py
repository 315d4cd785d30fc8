"""From logits to text: which token comes next, when a row ends, and the text as it grows."""
