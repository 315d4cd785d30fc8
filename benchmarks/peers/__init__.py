"""Other ways to serve BLIP-2, on the same checkpoint and machine, to be compared with."""
