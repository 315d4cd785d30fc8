"""Long runs with dated results: how fast, how steady, how exact."""
