"""The least time that captions can take on a machine: arithmetic that must be done, bytes that must be read.

Counted from a `Blip2Config`: two FLOPs for each number of a matrix and each token that is multiplied with it, and the
products of attention; norms, activations and picking are left out. A stage takes at least its FLOPs over the
measured rate of matrix products, and at least its weights (and what attention reads) over the measured bandwidth.
Knows no engine and no tokenizer.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

# Sides of the square matrices and bytes of the vectors, large enough to hide overheads and to miss every cache.
_MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
_VECTOR_BYTES = {"cpu": 2**29, "cuda": 2**31}
_ROW = 4096


@dataclass(frozen=True, slots=True)
class Stages:
    """One number (FLOPs, bytes or seconds) for each stage of a caption."""

    vit: float
    qformer: float
    prefill: float
    decode: float

    @property
    def total(self) -> float:
        return self.vit + self.qformer + self.prefill + self.decode


@dataclass(frozen=True, slots=True)
class Machine:
    """Measured rates: matrix products in FLOP/s, memory in B/s."""

    matrix_rate: float
    bandwidth: float

    def seconds(self, flops: float, num_bytes: float) -> float:
        """The least time for both, when they overlap fully."""
        return max(flops / self.matrix_rate, num_bytes / self.bandwidth)


def flops_per_caption(config: Any, new_tokens: int, beams: int = 1, *, prompt_tokens: int = 1) -> Stages:
    """FLOPs of one caption with `new_tokens` new tokens, by stage.

    `prompt_tokens` counts special tokens: the empty prompt has one in both families. As our engine does it, and
    nobody can do with less, the prefix is computed once for all beams, and of its last layer only keys and values.
    The first step has one row, the others `beams`.
    """
    steps = (
        (1 if step == 0 else beams) * _step_flops(config, step, prompt_tokens=prompt_tokens)
        for step in range(new_tokens)
    )
    return Stages(_vit_flops(config), _qformer_flops(config), _prefill_flops(config, prompt_tokens), sum(steps))


def bytes_per_step(
    config: Any, batch: int, step: int, *, beams: int = 1, prompt_tokens: int = 1, itemsize: float = 2
) -> float:
    """Bytes that decode step `step` (from 0) of `batch` requests reads, when a number takes `itemsize` bytes.

    The weights once for the whole batch; keys and values of a request's prefix once, of the tails those of every beam.
    """
    text = config.text_config
    cells = _num_prefix(config, prompt_tokens) + (step + 1) * beams
    return itemsize * (_decode_numbers(text) + batch * cells * 2 * _num_decoder_layers(text) * _attention_width(text))


def weights_read(config: Any) -> Stages:
    """Numbers in the matrices of each stage; those of `decode` are read again at every step."""
    vision, qformer = config.vision_config, config.qformer_config
    patch = 3 * vision.patch_size**2 * vision.hidden_size
    vit = vision.num_hidden_layers * _block_numbers(vision.hidden_size, vision.intermediate_size) + patch
    width, seen = qformer.hidden_size, qformer.encoder_hidden_size
    cross = _num_cross_layers(qformer) * 2 * width * (width + seen)
    own = qformer.num_hidden_layers * _block_numbers(width, qformer.intermediate_size)
    projection = width * _text_width(config.text_config)
    return Stages(
        vit, own + cross + projection, _prefill_numbers(config.text_config), _decode_numbers(config.text_config)
    )


def floor_seconds(
    config: Any,
    machine: Machine,
    *,
    batch: int,
    new_tokens: int,
    beams: int = 1,
    prompt_tokens: int = 1,
    itemsize: float = 2,
) -> Stages:
    """The least seconds by stage for `batch` captions that are computed together; throughput is batch / total."""
    flops = flops_per_caption(config, new_tokens, beams, prompt_tokens=prompt_tokens)
    numbers = weights_read(config)

    def step_seconds(step: int) -> float:
        rows = batch * (1 if step == 0 else beams)
        num_bytes = bytes_per_step(config, batch, step, beams=beams, prompt_tokens=prompt_tokens, itemsize=itemsize)
        return machine.seconds(rows * _step_flops(config, step, prompt_tokens=prompt_tokens), num_bytes)

    return Stages(
        machine.seconds(batch * flops.vit, itemsize * numbers.vit),
        machine.seconds(batch * flops.qformer, itemsize * numbers.qformer),
        machine.seconds(batch * flops.prefill, itemsize * numbers.prefill),
        sum(map(step_seconds, range(new_tokens))),
    )


def measured_matrix_rate(
    dtype: torch.dtype, device: torch.device | str = "cpu", threads: int | None = None, *, side: int | None = None
) -> float:
    """FLOP/s of the fastest of several products of square matrices; `threads` are torch's as they are by default."""
    device = torch.device(device)
    side = side or _MATRIX_SIDE[device.type]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    # As linear layers multiply: the right matrix is stored transposed.
    with _num_threads(threads):
        return 2 * side**3 / _fastest(lambda: left @ right.T, device)


def measured_bandwidth(
    device: torch.device | str = "cpu", threads: int | None = None, *, num_bytes: int | None = None
) -> float:
    """B/s of the faster of copying (bytes read and written both count) and a matrix-vector product, best of several.

    Give `num_bytes` of the weights where a cache may hold them: a server CPU's can be larger than a small model.
    """
    device = torch.device(device)
    numbers = (num_bytes or _VECTOR_BYTES[device.type]) // 4 // _ROW * _ROW
    source, target = (torch.ones(numbers, device=device) for _ in range(2))
    matrix, vector = source.view(-1, _ROW), source[:_ROW]
    with _num_threads(threads):
        copying = 2 * source.nbytes / _fastest(lambda: target.copy_(source), device)
        reading = source.nbytes / _fastest(lambda: matrix @ vector, device)
    return max(copying, reading)


def _fastest(run: Callable[[], object], device: torch.device, times: int = 10) -> float:
    """Seconds of the fastest of `times` runs, after one to warm up."""
    seconds = []
    for _ in range(times + 1):
        synchronize(device)
        begin = time.perf_counter()
        run()
        synchronize(device)
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])


def synchronize(device: torch.device) -> None:
    """Wait for the device; a CPU is never behind."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _num_threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _vit_flops(config: Any) -> float:
    vision = config.vision_config
    tokens, width = num_patches(config) + 1, vision.hidden_size
    layer = 2 * tokens * _block_numbers(width, vision.intermediate_size) + _attention_flops(tokens * tokens, width)
    return float(vision.num_hidden_layers * layer + 2 * num_patches(config) * 3 * vision.patch_size**2 * width)


def _qformer_flops(config: Any) -> float:
    """With the projection of the queries into the language model's width."""
    qformer, seen, queries = config.qformer_config, num_patches(config) + 1, config.num_query_tokens
    width = qformer.hidden_size
    own = 2 * queries * _block_numbers(width, qformer.intermediate_size) + _attention_flops(queries**2, width)
    cross = 2 * queries * 2 * width**2 + 2 * seen * 2 * width * qformer.encoder_hidden_size
    cross += _attention_flops(queries * seen, width)
    projection = 2 * queries * width * _text_width(config.text_config)
    return float(qformer.num_hidden_layers * own + _num_cross_layers(qformer) * cross + projection)


def _prefill_flops(config: Any, prompt_tokens: int) -> float:
    text, prefix = config.text_config, _num_prefix(config, prompt_tokens)
    if is_decoder_only(text):
        layers, pairs = text.num_hidden_layers - 1, prefix * (prefix + 1) // 2
    else:
        layers, pairs = text.num_layers, prefix**2
    return float(2 * prefix * _prefill_numbers(text) + layers * _attention_flops(pairs, _attention_width(text)))


def _step_flops(config: Any, step: int, *, prompt_tokens: int) -> float:
    """Of one row, which looks at the prefix and `step` + 1 tokens of its own."""
    text, cells = config.text_config, _num_prefix(config, prompt_tokens) + step + 1
    return 2 * _decode_numbers(text) + _num_decoder_layers(text) * _attention_flops(cells, _attention_width(text))


def _attention_flops(pairs: int, width: int) -> float:
    """Scores of `pairs` of a query and a key, and what they weigh, over all heads."""
    return 4 * pairs * width


def _block_numbers(width: int, inner: int) -> int:
    """The matrices of a plain transformer layer: query, key, value, output, and two of the feed-forward."""
    return 4 * width**2 + 2 * width * inner


def _prefill_numbers(text: Any) -> int:
    if is_decoder_only(text):
        whole = (text.num_hidden_layers - 1) * _block_numbers(text.hidden_size, text.ffn_dim)
        return int(whole + 2 * text.hidden_size**2)
    inner = _attention_width(text)
    encoder = text.num_layers * (4 * text.d_model * inner + _t5_feed_numbers(text))
    return int(encoder + text.num_decoder_layers * 2 * text.d_model * inner)


def _decode_numbers(text: Any) -> int:
    """With the head; an embedding is looked up, not read whole."""
    if is_decoder_only(text):
        width, narrow = text.hidden_size, text.word_embed_proj_dim
        projections = 2 * width * narrow if narrow != width else 0
        layers = text.num_hidden_layers * _block_numbers(width, text.ffn_dim)
        return int(layers + projections + text.vocab_size * narrow)
    layer = 6 * text.d_model * _attention_width(text) + _t5_feed_numbers(text)
    return int(text.num_decoder_layers * layer + text.vocab_size * text.d_model)


def _t5_feed_numbers(text: Any) -> int:
    return int((3 if text.is_gated_act else 2) * text.d_model * text.d_ff)


def is_decoder_only(text: Any) -> bool:
    """OPT is, T5 is not."""
    return not bool(text.is_encoder_decoder)


def num_patches(config: Any) -> int:
    """Patches of a picture, without the class token."""
    return int(config.vision_config.image_size // config.vision_config.patch_size) ** 2


def _num_prefix(config: Any, prompt_tokens: int) -> int:
    """Cells before the first step, which feeds OPT's last prompt token or T5's start token."""
    return int(config.num_query_tokens + prompt_tokens - int(is_decoder_only(config.text_config)))


def _num_cross_layers(qformer: Any) -> int:
    return int(-(-qformer.num_hidden_layers // qformer.cross_attention_frequency))


def _num_decoder_layers(text: Any) -> int:
    return int(text.num_hidden_layers if is_decoder_only(text) else text.num_decoder_layers)


def _attention_width(text: Any) -> int:
    """Heads times their width."""
    return int(text.hidden_size if is_decoder_only(text) else text.num_heads * text.d_kv)


def _text_width(text: Any) -> int:
    return int(text.hidden_size if is_decoder_only(text) else text.d_model)
