"""Commands that show what a server withstands."""
