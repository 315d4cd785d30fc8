"""Strangers who attack a server, and a good client who notices or does not."""
