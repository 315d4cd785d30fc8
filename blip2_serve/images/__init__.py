"""Pictures from strangers: `load_image` is the one door through which bytes become a picture."""

from blip2_serve.images.budget import PixelBudget
from blip2_serve.images.decode import Picture, load_image, squash
from blip2_serve.images.source import ImageId, ImageSource, ImageUrl, Upload

__all__ = ["ImageId", "ImageSource", "ImageUrl", "Picture", "PixelBudget", "Upload", "load_image", "squash"]
