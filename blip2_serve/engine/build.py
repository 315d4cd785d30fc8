"""From a loaded model and the settings to an engine, not started yet, with every choice of size logged."""

import logging
from pathlib import Path

from blip2_serve.config import Settings
from blip2_serve.engine.backends import make_backend
from blip2_serve.engine.cache.kv_cache import CacheGeometry, rows_that_fit
from blip2_serve.engine.cache.rows import CELLS_PER_ROW
from blip2_serve.engine.engine import Engine
from blip2_serve.engine.vision.image_cache import ImageCache, ImageFolder
from blip2_serve.model.device import free_memory_bytes
from blip2_serve.model.load import LoadedModel
from blip2_serve.model.vision.encoder import ImageEncoder

logger = logging.getLogger(__name__)

# The other half is left to activations, pictures and other processes.
_SHARE_FOR_ROWS = 0.5
# A CPU gains little from more images at a time, and the first of them would wait for the last.
_IMAGES_PER_STEP = {"cpu": 8}
_IMAGES_PER_STEP_ON_GPU = 16
# On a GPU the kernels of two threads would only take turns; a CPU has a core for each.
_ENCODER_THREADS = {"cpu": 1}
# Running rows wait for prefills: 256 tokens of OPT-2.7B take two cores some 8 s in float32.
_PREFILL_TOKENS_PER_STEP = {"cpu": 256}
_PREFILL_TOKENS_PER_STEP_ON_GPU = 2048
# Rows that a step takes for little more than one: a client has as many while others are here.
_FAIR_ROWS = {"cpu": 16}
_FAIR_ROWS_ON_GPU = 64


def build_engine(loaded: LoadedModel, settings: Settings) -> Engine:
    """The engine of one model, not started yet."""
    backend = make_backend(loaded.model, loaded.family)
    device = loaded.placement.device
    encode_images = ImageEncoder(
        loaded.model, loaded.image_processor, reads_instruction=loaded.family.reads_instruction
    )
    encoder_threads = _ENCODER_THREADS.get(device.type, 0)
    if encoder_threads:
        encode_images.trace()
    return Engine(
        backend,
        encode_images,
        loaded.decode_text,
        image_cache=_image_cache(loaded, settings),
        max_rows=_choose_rows(backend.geometry, settings, free_memory_bytes(device)),
        max_queue=settings.max_queue,
        max_images_per_step=_IMAGES_PER_STEP.get(device.type, _IMAGES_PER_STEP_ON_GPU),
        encoder_threads=encoder_threads,
        max_prefill_tokens=_PREFILL_TOKENS_PER_STEP.get(device.type, _PREFILL_TOKENS_PER_STEP_ON_GPU),
        fair_rows=_FAIR_ROWS.get(device.type, _FAIR_ROWS_ON_GPU),
    )


def _image_cache(loaded: LoadedModel, settings: Settings) -> ImageCache:
    folder = None
    if settings.image_cache_dir:
        shape = (loaded.num_query_tokens, loaded.model.language_projection.out_features)
        path, max_bytes = Path(settings.image_cache_dir), settings.image_cache_bytes
        folder = ImageFolder(path, max_bytes, loaded.placement.dtype, shape)
    return ImageCache(settings.image_cache_bytes, folder)


def _choose_rows(geometry: CacheGeometry, settings: Settings, free_bytes: int) -> int:
    if settings.max_rows:
        logger.info("%d rows decode together: set by BLIP2_MAX_ROWS", settings.max_rows)
        return settings.max_rows
    room = int(free_bytes * _SHARE_FOR_ROWS)
    rows = rows_that_fit(geometry, room)
    holds = "holds" if rows * CELLS_PER_ROW * geometry.cell_bytes <= room else "may not hold, but one request takes"
    logger.info("%d rows decode together: what half of %.1f GB of free memory %s", rows, free_bytes / 1e9, holds)
    return rows
