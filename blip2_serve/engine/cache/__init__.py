"""Keys and values: the ledger of cells, the blocks of one shape, and their tensors."""
