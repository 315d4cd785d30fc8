"""The model's view of a picture: squashed to its square, whatever the aspect, as BLIP-2 was trained."""

from PIL import Image


def squash(image: Image.Image, side: int, resample: int) -> bytes:
    """RGB bytes of a `side` x `side` picture, row by row, bit-equal to what BLIP's image processor resizes to.

    `resample` is Pillow's number of a filter; BLIP-2's checkpoints say 3, bicubic.
    """
    return image.resize((side, side), Image.Resampling(resample)).tobytes()
