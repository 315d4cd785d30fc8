"""Keys and values: who owns which cells, the blocks of one shape, and their tensors."""
