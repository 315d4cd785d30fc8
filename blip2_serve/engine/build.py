"""From a loaded model and the settings to an engine, not started yet, with every choice of size logged."""

import logging
from pathlib import Path

import torch

from blip2_serve.config import Settings
from blip2_serve.engine.backends import make_backend
from blip2_serve.engine.backends.absent import NO_WRITER, AbsentBackend
from blip2_serve.engine.cache.kv_cache import CacheGeometry, rows_that_fit
from blip2_serve.engine.cache.rows import CELLS_PER_ROW
from blip2_serve.engine.engine import Engine
from blip2_serve.engine.messages import ReaderName
from blip2_serve.engine.vision.image_cache import ImageCache, ImageFolder
from blip2_serve.errors import UnknownModel
from blip2_serve.model.device import free_memory_bytes
from blip2_serve.model.load import LoadedModel
from blip2_serve.model.retrieval.heads import RetrievalHeads
from blip2_serve.model.retrieval.load import LoadedRetrieval
from blip2_serve.model.vision.encoder import ImageEncoder, ImageTower
from blip2_serve.options import MAX_NUM_BEAMS

logger = logging.getLogger(__name__)

# The other half is left to activations, pictures and other processes.
_SHARE_FOR_ROWS = 0.5
# A CPU gains little from more images at a time, and the first of them would wait for the last.
_IMAGES_PER_STEP = {"cpu": 8}
_IMAGES_PER_STEP_ON_GPU = 16
# On a GPU the kernels of two threads would only take turns; a CPU has a core for each.
_ENCODER_THREADS = {"cpu": 1}
# Texts compared with pictures in one call: as with images, the first of them would wait for the last.
_TEXTS_PER_STEP = {"cpu": 32}
_TEXTS_PER_STEP_ON_GPU = 256
# Running rows wait for prefills: 256 tokens of OPT-2.7B take two cores some 8 s in float32.
_PREFILL_TOKENS_PER_STEP = {"cpu": 256}
_PREFILL_TOKENS_PER_STEP_ON_GPU = 2048
# Rows that a step takes for little more than one: a client has as many while others are here.
_FAIR_ROWS = {"cpu": 16}
_FAIR_ROWS_ON_GPU = 64


def build_engine(loaded: LoadedModel | None, settings: Settings, retrieval: LoadedRetrieval | None = None) -> Engine:
    """The engine of a model that writes text, of one that matches, or of both; not started yet."""
    device = _device_of(loaded, retrieval)
    backend = AbsentBackend(device) if loaded is None else make_backend(loaded.model, loaded.family)
    encoder, heads = _caption_reader(loaded), None
    if retrieval is not None:
        heads = _retrieval_heads(retrieval, encoder)
    encoder_threads = _ENCODER_THREADS.get(device.type, 0)
    readers: dict[ReaderName, ImageEncoder | RetrievalHeads] = {}
    readers |= {"caption": encoder} if encoder else {}
    readers |= {"retrieval": heads} if heads else {}
    for reader in readers.values() if encoder_threads else ():
        reader.trace()
    return Engine(
        backend,
        readers,
        _no_text if loaded is None else loaded.decode_text,
        image_cache=ImageCache(0) if loaded is None else _image_cache(loaded, settings),
        vision_cache=ImageCache(settings.vision_cache_bytes if retrieval else 0),
        compare_texts=heads,
        keeps_states=retrieval is not None and retrieval.shares_tower and settings.vision_cache_bytes > 0,
        max_rows=MAX_NUM_BEAMS
        if loaded is None
        else _choose_rows(backend.geometry, settings, free_memory_bytes(device)),
        max_queue=settings.max_queue,
        max_images_per_step=_IMAGES_PER_STEP.get(device.type, _IMAGES_PER_STEP_ON_GPU),
        max_texts_per_step=_TEXTS_PER_STEP.get(device.type, _TEXTS_PER_STEP_ON_GPU),
        encoder_threads=encoder_threads,
        max_prefill_tokens=_PREFILL_TOKENS_PER_STEP.get(device.type, _PREFILL_TOKENS_PER_STEP_ON_GPU),
        fair_rows=_FAIR_ROWS.get(device.type, _FAIR_ROWS_ON_GPU),
    )


def _device_of(loaded: LoadedModel | None, retrieval: LoadedRetrieval | None) -> torch.device:
    model = loaded or retrieval
    assert model is not None, "config.py refuses a server without any model"
    return model.placement.device


def _caption_reader(loaded: LoadedModel | None) -> ImageEncoder | None:
    if loaded is None:
        return None
    return ImageEncoder(loaded.model, loaded.image_processor, reads_instruction=loaded.family.reads_instruction)


def _retrieval_heads(retrieval: LoadedRetrieval, encoder: ImageEncoder | None) -> RetrievalHeads:
    """The heads behind the caption model's tower if it is the same, else behind their own."""
    if encoder is not None and retrieval.shares_tower:
        return RetrievalHeads(retrieval.model, encoder.tower)
    return RetrievalHeads(retrieval.model, ImageTower(retrieval.model.vision_model, retrieval.image_processor))


def _no_text(ids: list[int]) -> str:
    raise UnknownModel(NO_WRITER)


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
