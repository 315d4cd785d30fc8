"""From pixels to image tokens: waiting images, encoder threads, and the cache of image tokens."""
