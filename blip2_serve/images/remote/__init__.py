"""A picture from a URL: whom to ask, and how to read what comes."""
