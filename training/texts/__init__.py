"""The texts: the language of the scenes, what each family learns to say, and its tokenizer."""
