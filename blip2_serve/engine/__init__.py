"""The engine: queues, rows, caches and the loop; it knows requests and batches, but neither HTTP nor pictures."""
