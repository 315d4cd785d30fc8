"""ICC profiles, written number by number (ICC.1:2010), and sRGB's own."""

import struct

import numpy as np
from PIL import ImageCms


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
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + struct.pack(">9i", *(65536 * np.eye(3, dtype=int).flatten()))
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
