"""Pictures as people's tools write them, around the same pixels: with odd, broken or enormous metadata, or cut short."""

import io
import re
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageCms

MEGABYTES = 3_000_000
PNG_HEAD = 33  # signature and IHDR
IMAGE_UNIQUE_ID, RATIONAL, ASCII, SHORT = 0xA420, 5, 2, 3
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


def wide_gamut_profile() -> bytes:
    """Build the ICC profile of a space with primaries beyond sRGB's (Display P3), as `ImageCms` cannot."""
    # D65 primaries of Display P3, adapted to D50; a gamma of 2.2.
    columns = {b"rXYZ": (0.51512, 0.2412, -0.00105), b"gXYZ": (0.29198, 0.69225, 0.04189)}
    columns |= {b"bXYZ": (0.1571, 0.06657, 0.78407), b"wtpt": (0.9642, 1.0, 0.8249)}
    tags = {
        name: b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in xyz))
        for name, xyz in columns.items()
    }
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), b"curv\0\0\0\0" + struct.pack(">IH2x", 1, round(2.2 * 256)))
    tags[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", 3) + b"P3\0" + bytes(79)
    tags[b"cprt"] = b"text\0\0\0\0none\0\0\0\0"
    return _profile(b"RGB ", b"XYZ ", tags)


def cmyk_profile() -> bytes:
    """Build a small ICC profile of inks: full ink of a channel is far from the pure colour that a formula gives."""
    grid = np.stack(np.meshgrid(*[[0.0, 1.0]] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    cyan, magenta, yellow, black = grid.T
    light = (1 - 0.45 * cyan) * (1 - 0.5 * magenta) * (1 - 0.1 * yellow) * (1 - 0.9 * black)
    lab = np.stack([light, 0.5 + 0.25 * (magenta - cyan) * light, 0.5 + 0.25 * (yellow - cyan) * light], axis=-1)
    table = (
        b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + struct.pack(">9i", *(65536 * one for one in np.eye(3, dtype=int).flat))
    )
    ramp = bytes(range(256))
    table += ramp * 4 + (lab * 255).round().astype(np.uint8).tobytes() + ramp * 3
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    names = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 4) + b"ink\0" + bytes(78), b"wtpt": white, b"A2B0": table}
    return _profile(b"CMYK", b"Lab ", names | {b"cprt": b"text\0\0\0\0none\0\0\0\0"}, kind=b"prtr")


def _profile(space: bytes, connection: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr") -> bytes:
    head = bytes(4) + b"lcms" + b"\x02\x10\0\0" + kind + space + connection + struct.pack(">6H", 2020, 1, 1, 0, 0, 0)
    head += b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    offset, directory, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        directory += name + struct.pack(">2I", offset + len(body), len(data))
        body += data
    whole = head + directory + body
    return struct.pack(">I", len(whole)) + whole[4:]


def srgb_profile() -> bytes:
    """The ICC profile of sRGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def iccp(profile: bytes) -> bytes:
    """Build the chunk of a PNG that holds a profile."""
    return chunk(b"iCCP", b"ICC\0\0" + zlib.compress(profile))


def odd_pngs(png: bytes) -> Iterator[tuple[str, bytes]]:
    """Put odd metadata into a PNG without any."""
    noise = np.random.default_rng(0).bytes(MEGABYTES)
    text = b"Comment\0" + b"x" * MEGABYTES
    yield "profile of megabytes", with_chunks(png, iccp(noise))
    yield "profile that unpacks to 64 megabytes", with_chunks(png, iccp(bytes(64_000_000)))
    yield "profile that is no zlib data", with_chunks(png, chunk(b"iCCP", b"ICC\0\0" + noise[:999]))
    yield "profile of no method", with_chunks(png, chunk(b"iCCP", b"ICC\0\7xx"))
    yield "profile without a body", with_chunks(png, chunk(b"iCCP", b"ICC"))
    yield "empty profile", with_chunks(png, chunk(b"iCCP", b""))
    yield "text of megabytes", with_chunks(png, chunk(b"tEXt", text))
    yield "texts of 70 megabytes", with_chunks(png, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000))) * 70)
    yield (
        "text that unpacks to 64 megabytes",
        with_chunks(png, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(64_000_000)))),
    )
    yield "text of no method", with_chunks(png, chunk(b"zTXt", b"a\0\7xx"))
    yield "international text that is no UTF-8", with_chunks(png, chunk(b"iTXt", b"a\0\0\0\xff\xff\0\xff\0\xff"))
    yield "texts behind", with_chunks(png, behind=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(64_000_000))))
    yield "text behind that is no UTF-8", with_chunks(png, behind=chunk(b"tEXt", b"\xff\xfe\xff"))
    yield (
        "short chunks",
        with_chunks(png, *(chunk(kind, b"\1") for kind in (b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"tIME"))),
    )
    yield "wrong CRC in pHYs", with_chunks(png, chunk(b"pHYs", bytes(9), wrong_crc=True))
    yield "wrong CRC in a text", with_chunks(png, chunk(b"tEXt", b"a\0b", wrong_crc=True))
    yield "wrong CRC in a private chunk", with_chunks(png, chunk(b"prVt", b"x", wrong_crc=True))
    yield (
        "animation out of order",
        with_chunks(png, chunk(b"acTL", bytes(8)), chunk(b"fcTL", bytes(26)), chunk(b"fcTL", bytes(26))),
    )
    yield "short animation control", with_chunks(png, chunk(b"acTL", b"\0"))
    yield "trailing bytes", png + noise
    yield "no end", png[:-12]
    yield "broken chunk behind", png[:-12] + b"\0\0\0\x09\xff\0\xff\0"
    yield "cut text behind", png[:-12] + chunk(b"tEXt", text)[:100]
    for name, data in UNREADABLE_EXIF.items():
        yield f"exif: {name}", with_chunks(png, chunk(b"eXIf", data))
        yield f"exif behind: {name}", with_chunks(png, behind=chunk(b"eXIf", data))
    yield "raw profile that is no hex", with_chunks(png, chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 4\nxyzw"))


def odd_jpegs(jpeg: bytes) -> Iterator[tuple[str, bytes]]:
    """Put odd metadata into a JPEG."""
    noise = np.random.default_rng(0).bytes(MEGABYTES)
    icc = b"ICC_PROFILE\0"
    yield (
        "profile of megabytes",
        with_segments(
            jpeg,
            *(
                segment(0xE2, icc + bytes((place + 1, 46)) + noise[place * 65000 : (place + 1) * 65000])
                for place in range(46)
            ),
        ),
    )
    yield "profile without a number", with_segments(jpeg, segment(0xE2, icc))
    yield "profile whose parts are missing", with_segments(jpeg, segment(0xE2, icc + b"\1\7xx"))
    yield "short JFIF", with_segments(jpeg[:2] + jpeg[20:], segment(0xE0, b"JFIF\0"))
    yield "short Adobe", with_segments(jpeg, segment(0xEE, b"Adobe"))
    yield "short Photoshop", with_segments(jpeg, segment(0xED, b"Photoshop 3.0\0" + b"8BIM\3"))
    yield (
        "short Photoshop resolution",
        with_segments(jpeg, segment(0xED, b"Photoshop 3.0\0" + b"8BIM\3\xed\0\0\0\0\0\1x")),
    )
    yield "broken MPF", with_segments(jpeg, segment(0xE2, b"MPF\0" + noise[:50]))
    yield "MPF of nothing", with_segments(jpeg, segment(0xE2, b"MPF\0II*\0\x08\0\0\0\0\0"))
    yield "segment of no length", with_segments(jpeg, b"\xff\xe5\0\0")
    yield "junk between segments", with_segments(jpeg, b"junk", segment(0xE5, b"x"), b"more junk")
    yield (
        "XMP of megabytes",
        with_segments(jpeg, *(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + bytes(60_000)) for _ in range(50))),
    )
    yield "comments", with_segments(jpeg, *(segment(0xFE, bytes(60_000)) for _ in range(50)))
    yield "trailing bytes", jpeg + noise
    yield "a second picture behind", jpeg + jpeg
    yield "without its last two bytes", jpeg[:-2]
    yield "without its last byte", jpeg[:-1]
    yield "zeros in place of its end", jpeg[:-2] + bytes(2000)
    for name, data in UNREADABLE_EXIF.items():
        yield f"exif: {name}", with_segments(jpeg, segment(0xE1, b"Exif\0\0" + data))
    yield "exif twice", with_segments(jpeg, *(segment(0xE1, b"Exif\0\0" + data) for data in UNREADABLE_EXIF.values()))


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


def odd_avifs(image: Image.Image) -> Iterator[tuple[str, bytes]]:
    """Put unreadable EXIF into an AVIF, and into one that is turned by its container."""
    placeholder = exif(*[tiff_entry(0x010F, SHORT, 1, 1)] * 20)
    for orientation in (1, 6):
        carrier = Image.Exif()
        carrier[ORIENTATION] = orientation
        carrier[0x010E] = placeholder.hex()
        whole = saved(image, "AVIF", quality=90, speed=10, exif=carrier)
        start = re.search(rb"(II\*\0|MM\0\*)", whole)
        assert start is not None
        for name, data in UNREADABLE_EXIF.items():
            body = data[:200].ljust(200, b"\0")
            yield f"turned by {orientation}: {name}", whole[: start.start()] + body + whole[start.start() + 200 :]
