"""Pictures as people's tools write them: with odd, broken or enormous metadata around the same pixels."""

import io
import re
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

MEGABYTES = 3_000_000
PNG_HEAD = 33  # signature and IHDR
RATIONAL, ASCII, SHORT = 5, 2, 3
_EXIF_ROOM = 200
ORIENTATION = 0x0112


def photograph(width: int = 64, height: int = 48, mode: str = "RGB") -> Image.Image:
    """Draw soft colours with some noise, so that every row takes bytes."""
    rng = np.random.default_rng(7)
    corners = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    soft = np.asarray(corners.resize((width, height), Image.Resampling.BILINEAR), dtype=int)
    noisy = (soft + rng.integers(-12, 13, soft.shape)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(noisy).convert(mode)


def saved(image: Image.Image, format_: str, **options: object) -> bytes:
    """Save a picture."""
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes, *, wrong_crc: bool = False) -> bytes:
    """Build a chunk of a PNG."""
    crc = zlib.crc32(kind + body) ^ wrong_crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def with_chunks(png: bytes, *chunks: bytes, behind: bytes = b"") -> bytes:
    """Put chunks behind a PNG's header, and `behind` the picture's data."""
    return png[:PNG_HEAD] + b"".join(chunks) + png[PNG_HEAD:-12] + behind + png[-12:]


def segment(marker: int, body: bytes) -> bytes:
    """Build a marker segment of a JPEG."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """Put segments before everything else in a JPEG."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def riff(kind: bytes, body: bytes) -> bytes:
    """Build a chunk of a WebP."""
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def extended_webp(image: Image.Image, *extra: bytes, flags: int = 0x0C, cut: int = 0) -> bytes:
    """Build a WebP with a VP8X header, whose flags promise metadata, and extra chunks behind the picture."""
    simple = saved(image, "WEBP", lossless=True)
    width, height = ((side - 1).to_bytes(3, "little") for side in image.size)
    body = riff(b"VP8X", bytes((flags, 0, 0, 0)) + width + height) + simple[12:] + b"".join(extra)
    whole = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    return whole[:-cut] if cut else whole


def tiff_entry(tag: int, kind: int, count: int, value: int) -> bytes:
    """Build a little-endian entry of an EXIF directory."""
    return struct.pack("<HHII", tag, kind, count, value)


def exif(*entries: bytes, tail: bytes = b"") -> bytes:
    """Build EXIF data with these entries, little-endian."""
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4) + tail


UNREADABLE_EXIF = {
    "empty": b"",
    "noise": bytes(range(251)) * 3,
    "no directory": b"II*\0\xff\xff\xff\x7f",
    "text where numbers belong": exif(tiff_entry(ORIENTATION, ASCII, 4, 0x41424344)),
    "values outside": exif(tiff_entry(0x829A, RATIONAL, 2**31, 2**31), tiff_entry(0x8769, 4, 1, 2**31)),
    "a directory that is its own child": exif(tiff_entry(0x8769, 4, 1, 8)),
}
# Orientation 6, beside entries that cannot be read or written again.
TURNED_EXIF = {
    "sound": exif(tiff_entry(ORIENTATION, SHORT, 1, 6)),
    "beside a broken entry": exif(tiff_entry(0x010F, ASCII, 2**30, 2**30), tiff_entry(ORIENTATION, SHORT, 1, 6)),
    "beside broken rationals": exif(
        tiff_entry(ORIENTATION, SHORT, 1, 6), tiff_entry(0x011A, RATIONAL, 1, 38), tail=bytes(8)
    ),
    "beside a number of no type": exif(tiff_entry(ORIENTATION, SHORT, 1, 6), tiff_entry(0x0128, 99, 1, 1)),
    "with a broken child": exif(tiff_entry(ORIENTATION, SHORT, 1, 6), tiff_entry(0x8769, 4, 1, 2**31)),
}


def iccp(profile: bytes) -> bytes:
    """Build the chunk of a PNG that holds a profile."""
    return chunk(b"iCCP", b"ICC\0\0" + zlib.compress(profile))


def odd_pngs(png: bytes) -> Iterator[tuple[str, bytes]]:
    """Put odd metadata into a PNG without any."""
    noise = np.random.default_rng(0).bytes(MEGABYTES)
    packed = zlib.compress(bytes(64_000_000))
    texts = {
        "of megabytes": chunk(b"tEXt", b"Comment\0" + b"x" * MEGABYTES),
        "of 70 megabytes": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000))) * 70,
        "that unpacks to 64 megabytes": chunk(b"zTXt", b"a\0\0" + packed),
        "of no method": chunk(b"zTXt", b"a\0\7xx"),
        "that is no UTF-8": chunk(b"iTXt", b"a\0\0\0\xff\xff\0\xff\0\xff"),
        "of no name": chunk(b"tEXt", b"\xff\xfe\xff"),
        "that is no EXIF": chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 4\nxyzw"),
        "of a wrong CRC": chunk(b"tEXt", b"a\0b", wrong_crc=True),
    }
    for name, text in texts.items():
        yield f"text {name}", with_chunks(png, text)
        yield f"text {name}, behind", with_chunks(png, behind=text)
    for name, data in UNREADABLE_EXIF.items():
        yield f"exif: {name}", with_chunks(png, chunk(b"eXIf", data))
        yield f"exif behind: {name}", with_chunks(png, behind=chunk(b"eXIf", data))
    profiles = {"of megabytes": b"ICC\0\0" + zlib.compress(noise), "that unpacks to 64 megabytes": b"ICC\0\0" + packed}
    profiles |= {"that is no zlib data": b"ICC\0\0" + noise[:999], "of no method": b"ICC\0\7xx"}
    for name, data in (profiles | {"without a body": b"ICC", "that is empty": b""}).items():
        yield f"profile {name}", with_chunks(png, chunk(b"iCCP", data))
    for kind in (b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"tIME", b"acTL", b"bKGD", b"sBIT"):
        yield f"short {kind.decode()}", with_chunks(png, chunk(kind, b"\1"))
        yield f"wrong CRC in {kind.decode()}", with_chunks(png, chunk(kind, bytes(9), wrong_crc=True))
    yield "animation out of order", with_chunks(png, chunk(b"acTL", bytes(8)), *[chunk(b"fcTL", bytes(26))] * 2)
    yield "trailing bytes", png + noise
    yield "no end", png[:-12]
    yield "broken chunk behind", png[:-12] + b"\0\0\0\x09\xff\0\xff\0"
    yield "cut text behind", png[:-12] + texts["of megabytes"][:100]


def odd_jpegs(jpeg: bytes) -> Iterator[tuple[str, bytes]]:
    """Put odd metadata into a JPEG."""
    noise, icc, photoshop = np.random.default_rng(0).bytes(MEGABYTES), b"ICC_PROFILE\0", b"Photoshop 3.0\0" + b"8BIM\3"
    parts = [noise[start : start + 65_000] for start in range(0, MEGABYTES, 65_000)]
    segments = {
        "profile of megabytes": [
            segment(0xE2, icc + bytes((place + 1, len(parts))) + part) for place, part in enumerate(parts)
        ],
        "profile without a number": [segment(0xE2, icc)],
        "profile whose parts are missing": [segment(0xE2, icc + b"\1\7xx")],
        "short Adobe": [segment(0xEE, b"Adobe")],
        "short Photoshop": [segment(0xED, photoshop)],
        "short Photoshop resolution": [segment(0xED, photoshop + b"\xed\0\0\0\0\0\1x")],
        "broken MPF": [segment(0xE2, b"MPF\0" + noise[:50])],
        "MPF of nothing": [segment(0xE2, b"MPF\0II*\0\x08\0\0\0\0\0")],
        "segment of no length": [b"\xff\xe5\0\0"],
        "junk between segments": [segment(0xE5, b"x"), b"junk"],
        "XMP of megabytes": [segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + bytes(60_000))] * 50,
        "comments": [segment(0xFE, bytes(60_000))] * 50,
        "exif twice": [segment(0xE1, b"Exif\0\0" + data) for data in UNREADABLE_EXIF.values()],
    }
    segments |= {f"exif: {name}": [segment(0xE1, b"Exif\0\0" + data)] for name, data in UNREADABLE_EXIF.items()}
    for name, odd in segments.items():
        yield name, with_segments(jpeg, *odd)
    yield "short JFIF", with_segments(jpeg[:2] + jpeg[20:], segment(0xE0, b"JFIF\0"))
    yield "trailing bytes", jpeg + noise
    yield "a second picture behind", jpeg + jpeg
    yield "without its last two bytes", jpeg[:-2]
    yield "without its last byte", jpeg[:-1]
    yield "zeros in place of its end", jpeg[:-2] + bytes(2000)


def odd_webps(image: Image.Image) -> Iterator[tuple[str, bytes]]:
    """Put odd metadata into a lossless WebP."""
    whole = extended_webp(image, riff(b"EXIF", b"x" * 40), flags=0x08)
    for name, data in UNREADABLE_EXIF.items():
        yield f"exif: {name}", extended_webp(image, riff(b"EXIF", data), flags=0x08)
    yield "exif of no flag", extended_webp(image, riff(b"EXIF", b"x" * 40), flags=0)
    yield "flags of nothing", extended_webp(image)
    yield "cut metadata", whole[:-9]
    yield "cut chunk head", whole + b"XMP "
    yield "unknown chunk", extended_webp(image, riff(b"prVt", b"x"), flags=0)
    yield "trailing bytes", whole + bytes(999)
    yield "profile of megabytes", extended_webp(image, riff(b"EXIF", bytes(MEGABYTES)), flags=0x08)
    yield "wrong size", whole[:4] + struct.pack("<I", len(whole) + 999) + whole[8:]


def odd_tiffs(image: Image.Image) -> Iterator[tuple[str, bytes]]:
    """Put odd tags into a TIFF."""
    for compression in ("raw", "tiff_lzw"):
        whole = saved(image, "TIFF", compression=compression)
        yield f"{compression}: exif outside", _with_tag(whole, 0x8769, 4, 1, 2**31)
        yield f"{compression}: exif of noise", _with_tag(whole, 0x8769, 4, 1, 8)
        yield f"{compression}: GPS outside", _with_tag(whole, 0x8825, 4, 1, 2**31)
        yield f"{compression}: text outside", _with_tag(whole, 0x9C9B, ASCII, 100, 2**31)
        yield f"{compression}: tag of no type", _with_tag(whole, 0x9C9B, 99, 1, 7)
        yield f"{compression}: profile outside", _with_tag(whole, 0x8773, 7, 100, 2**31)
        yield f"{compression}: resolution of nothing", _with_tag(whole, 0x9C9A, RATIONAL, 1, 8)
        yield f"{compression}: trailing bytes", whole + bytes(999)


def _with_tag(tiff: bytes, tag: int, kind: int, count: int, value: int) -> bytes:
    """Move a little-endian TIFF's directory to the end, with one entry more."""
    (offset,) = struct.unpack_from("<I", tiff, 4)
    (number,) = struct.unpack_from("<H", tiff, offset)
    entries = [tiff[offset + 2 + 12 * place :][:12] for place in range(number)] + [tiff_entry(tag, kind, count, value)]
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry))
    padded = tiff + bytes(len(tiff) % 2)
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return padded[:4] + struct.pack("<I", len(padded)) + padded[8:] + directory


def odd_avifs(turned: bytes) -> Iterator[tuple[str, bytes]]:
    """Put unreadable EXIF into an AVIF from `turned_avif`."""
    start = re.search(rb"II\*\0|MM\0\*", turned)
    assert start is not None
    for name, data in UNREADABLE_EXIF.items():
        body = data[:_EXIF_ROOM].ljust(_EXIF_ROOM, b"\0")
        yield f"exif: {name}", turned[: start.start()] + body + turned[start.start() + _EXIF_ROOM :]


def turned_avif(image: Image.Image, orientation: int) -> bytes:
    """Save as AVIF, which its container turns, with room for EXIF."""
    carrier = Image.Exif()
    carrier[ORIENTATION] = orientation
    carrier[0x010E] = "x" * _EXIF_ROOM
    return saved(image, "AVIF", quality=90, speed=10, exif=carrier)
