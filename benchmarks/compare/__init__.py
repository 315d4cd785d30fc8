"""Our server beside others: the checkpoints, the contestants, the table and its bars."""
