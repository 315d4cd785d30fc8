"""Pictures are kept within a number of bytes."""

from blip2_serve.images.pixel_cache import PixelCache


def test_a_picture_is_found_by_its_digest() -> None:
    cache = PixelCache(100)
    cache.put(b"a", b"pixels")
    assert cache.get(b"a") == b"pixels"
    assert cache.get(b"b") is None


def test_the_least_recently_used_picture_leaves_first() -> None:
    cache = PixelCache(20)
    for name in (b"a", b"b"):
        cache.put(name, bytes(10))
    assert cache.get(b"a") is not None
    cache.put(b"c", bytes(10))
    assert [cache.get(name) is None for name in (b"a", b"b", b"c")] == [False, True, False]


def test_a_picture_that_comes_again_takes_no_more_room() -> None:
    cache = PixelCache(20)
    for _ in range(5):
        cache.put(b"a", bytes(10))
    cache.put(b"b", bytes(10))
    assert cache.get(b"a") is not None


def test_a_picture_that_comes_again_leaves_last() -> None:
    cache = PixelCache(20)
    for name in (b"a", b"b", b"a", b"c"):
        cache.put(name, bytes(10))
    assert [cache.get(name) is None for name in (b"a", b"b", b"c")] == [False, True, False]


def test_no_bytes_hold_nothing() -> None:
    cache = PixelCache(0)
    cache.put(b"a", b"pixels")
    assert cache.get(b"a") is None
