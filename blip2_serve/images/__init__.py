"""Untrusted pictures: `decoder_pool` turns their bytes into pixels, in processes that run `decode`."""

from blip2_serve.images.decode import Picture, load_image, squash
from blip2_serve.images.source import ImageId, ImageSource, ImageUrl, Upload

__all__ = ["ImageId", "ImageSource", "ImageUrl", "Picture", "Upload", "load_image", "squash"]
