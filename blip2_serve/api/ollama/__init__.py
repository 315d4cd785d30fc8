"""Ollama's protocol, mounted at /api: translates requests to `Tasks`' verbs and their results to Ollama's answers."""
