"""Weights and mathematics; knows nothing of requests."""
