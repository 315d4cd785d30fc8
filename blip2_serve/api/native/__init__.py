"""The endpoints of our own: their fields, how bodies become them, and their answers in JSON."""
