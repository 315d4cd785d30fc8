"""Small files that cost a picture reader much: each returns the bytes of one file."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

_LONG, _SHORT, _RATIONAL = 4, 3, 5


def tiff_of_many_strips(num_strips: int = 4_900_000) -> bytes:
    """Build a grey TIFF of 64 x 64 whose StripOffsets hold so many numbers, 4 bytes each."""
    entries = [(256, _SHORT, 1, 64), (257, _SHORT, 1, 64), (258, _SHORT, 1, 8), (259, _SHORT, 1, 1)]
    entries += [(262, _SHORT, 1, 1), (273, _LONG, num_strips, 200), (278, _SHORT, 1, 1), (279, _LONG, 1, 4096)]
    return _tiff(entries).ljust(200, b"\0") + bytes(4 * num_strips)


def _tiff(entries: list[tuple[int, int, int, int]]) -> bytes:
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)


def png_with_exif_of_rationals(num_rationals: int = 2_400_000) -> bytes:
    """Build a PNG whose Exif has one entry of so many rationals, 8 bytes each."""
    exif = _tiff([(0x829A, _RATIONAL, num_rationals, 26)]).ljust(26, b"\0") + b"\1\0\0\0" * (2 * num_rationals)
    return _png(between=_chunk(b"eXIf", exif))


def png_with_chunks_behind(num_chunks: int = 1_500_000) -> bytes:
    """Build a PNG with so many empty chunks between the picture's data and its end."""
    return _png(behind=_chunk(b"prVt", b"") * num_chunks)


def _png(between: bytes = b"", behind: bytes = b"", side: int = 64) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    data = _chunk(b"IDAT", zlib.compress(bytes((side * 3 + 1) * side)))
    return b"\x89PNG\r\n\x1a\n" + header + between + data + behind + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bmp_of_short_lines(width: int = 65_535, height: int = 700) -> bytes:
    """Build a BMP in RLE, of 4 KB, each line of which ends after its first pixel."""
    return _bmp_in_rle(width, height, b"\1\0\0\0" * height)


def bmp_of_single_pixels(width: int = 4000, height: int = 2000) -> bytes:
    """Build a BMP in RLE, of 16 MB, in which every pixel is a run of its own."""
    return _bmp_in_rle(width, height, (b"\1\0" * width + b"\0\0") * height)


def _bmp_in_rle(width: int, height: int, lines: bytes) -> bytes:
    palette = b"".join(bytes((grey, grey, grey, 0)) for grey in range(256))
    data = lines + b"\0\1"
    offset = 14 + 40 + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset) + info + palette + data


def jpeg_of_many_scans(num_scans: int = 10_000, side: int = 4000) -> bytes:
    """Build a progressive JPEG whose last scan comes again and again."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), "grey").save(file, "JPEG", progressive=True, quality=50)
    whole = file.getvalue()
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    room = max(1, 19_000_000 // len(scan))
    return whole[:-2] + scan * min(num_scans, room) + b"\xff\xd9"


def avif_that_lies(side: int = 16_384) -> bytes:
    """Build an AVIF of a few kilobytes whose header says 64 x 64, and whose frame is `side` x `side`."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), "grey").save(file, "AVIF", speed=10, quality=10)
    real, said = struct.pack(">II", side, side), struct.pack(">II", 64, 64)
    return file.getvalue().replace(b"ispe" + bytes(4) + real, b"ispe" + bytes(4) + said)


def tiff_bomb(width: int = 7000, height: int = 7000) -> bytes:
    """Build a TIFF of 49 megapixels in a few kilobytes."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((height, width), np.uint8)).save(file, "TIFF", compression="tiff_adobe_deflate")
    return file.getvalue()
