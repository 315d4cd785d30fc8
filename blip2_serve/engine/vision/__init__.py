"""From pixels to image tokens: images that wait, threads that encode them, images seen before."""
