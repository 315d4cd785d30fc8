"""Untrusted pictures: `load_image` is the only way from bytes to a picture."""

from blip2_serve.images.budget import PixelBudget
from blip2_serve.images.decode import Picture, load_image, squash
from blip2_serve.images.source import ImageId, ImageSource, ImageUrl, Upload

__all__ = ["ImageId", "ImageSource", "ImageUrl", "Picture", "PixelBudget", "Upload", "load_image", "squash"]
