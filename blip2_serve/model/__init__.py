"""Weights and mathematics; knows no request."""
