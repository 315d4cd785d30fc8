"""Our own endpoints: their fields, how bodies are read into fields, and their JSON answers."""
