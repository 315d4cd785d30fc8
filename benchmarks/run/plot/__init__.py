"""Drawings of dated results."""
