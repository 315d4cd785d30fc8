"""The product's verbs (verbs.py) and their steps: prepare a request, follow it through the engine, read its answer."""
