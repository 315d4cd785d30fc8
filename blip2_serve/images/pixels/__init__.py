"""Values of all kinds, deep, transparent or of other inks, to 8-bit RGB."""
