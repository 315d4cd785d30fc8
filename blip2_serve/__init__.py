"""BLIP-2 serving, without knowledge of the web framework in front of it (see ARCHITECTURE.md)."""

__version__ = "0.1.0"
