"""Files as people have them: their metadata taken off before Pillow reads them, so that it never decides."""
