"""Flan-T5, encoder-decoder: the prefix is the encoder's output, kept as every layer's cross-attention keys and values.

transformers' encoder is used as it is. Its decoder computes the position bias from one past length for the whole
batch and cannot have rows at different places, so the decoder step is written out here on the same weights
(5.24, models/t5/modeling_t5.py).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from transformers.activations import NewGELUActivation

from blip2_serve.engine.backends.base import additive, attend, join, stack_images
from blip2_serve.engine.cache.group import Span, Step
from blip2_serve.engine.cache.kv_cache import CacheGeometry
from blip2_serve.engine.cache.rows import PREFIX_CLASSES, TAIL_CLASSES
from blip2_serve.engine.sequence import Prefix
from blip2_serve.model.linear import fuse, linear_of
from blip2_serve.model.reference import end_ids_of


class T5Backend:
    """Decodes with a `T5ForConditionalGeneration` whose encoder reads image tokens, then the prompt."""

    def __init__(self, language_model: Any, *, image_token_id: int, num_query_tokens: int) -> None:
        decoder, config = language_model.decoder, language_model.config
        weight = language_model.shared.weight
        self.vocab_size: int = language_model.lm_head.weight.shape[0]
        self.end_ids = end_ids_of(language_model)
        self.max_length: int = PREFIX_CLASSES[-1] + TAIL_CLASSES[-1]
        self.geometry = CacheGeometry(
            num_layers=config.num_decoder_layers,
            num_heads=config.num_heads,
            head_dim=config.d_kv,
            dtype=weight.dtype,
            device=weight.device,
            layer_devices=tuple(block.layer[0].layer_norm.weight.device for block in decoder.block),
        )
        self._image_ids = (image_token_id,) * num_query_tokens
        self._start_id: int = config.decoder_start_token_id
        self._embeddings = weight.data
        self._decoder_embeddings = decoder.embed_tokens.weight.data  # the same, but for an adapter that changes one
        self._encoder = language_model.encoder
        self._layers = [_Layer(block) for block in decoder.block]
        self._head = language_model.lm_head.weight.data
        self._final_norm = _Norm(decoder.final_layer_norm.to(self._head.device))
        self._head_scale = config.d_model**-0.5 if config.scale_decoder_outputs else 1.0
        self._bias = _bias_by_distance(decoder.block[0].layer[0].SelfAttention).to(weight.device)

    def prefix(self, prompt_ids: tuple[int, ...]) -> Prefix:
        """Image tokens and prompt, which the encoder reads; the decoder begins with its start token."""
        return Prefix(len(self._image_ids) + len(prompt_ids), self._start_id, (self._start_id,))

    def prefill(self, span: Span, image_tokens: Sequence[torch.Tensor]) -> None:
        """Encode the prefixes once and store the keys and values that the cross-attentions will read."""
        embeddings, mask = self._prefix_embeddings(span, image_tokens)
        encoded = self._encoder(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state
        for index, layer in enumerate(self._layers):
            encoded = encoded.to(self.geometry.device_of(index))
            span.group.cache.write_prefix(index, span.start, span.stop, layer.cross_states(encoded))

    def decode(self, steps: Sequence[Step]) -> torch.Tensor:
        spans = [_DecodeSpan(step, self._bias) for step in steps]
        sizes = [step.num_rows for step in steps]
        hidden = F.embedding(join([step.tokens.view(-1) for step in steps]), self._decoder_embeddings)
        for index, layer in enumerate(self._layers):
            hidden = hidden.to(self.geometry.device_of(index))
            states = zip(spans, layer.own_states(hidden).split_with_sizes(sizes), strict=True)
            hidden = layer.add_own(hidden, join([span.attend_to_tail(index, part) for span, part in states]))
            queries = zip(spans, layer.cross_query(hidden).split_with_sizes(sizes), strict=True)
            hidden = layer.add_cross(hidden, join([span.attend_to_prefix(index, part) for span, part in queries]))
            hidden = layer.feed_forward(hidden)
        hidden = self._final_norm(hidden.to(self._head.device))
        if self._head_scale != 1.0:
            hidden = hidden * self._head_scale
        return F.linear(hidden, self._head).float().to(self.geometry.device)

    def _prefix_embeddings(
        self, span: Span, image_tokens: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Embeddings (n, longest prefix, d_model), padded on the right, and their mask (n, longest prefix) int64.

        The mask is None without padding.
        """
        lengths = [sequence.prefix.num_cells for sequence in span.sequences]
        longest, num_images = max(lengths), len(self._image_ids)
        prompts = [list(sequence.request.prompt_ids) for sequence in span.sequences]
        ids = [[0] * num_images + prompt + [0] * (longest - num_images - len(prompt)) for prompt in prompts]
        device = self._embeddings.device
        embeddings = F.embedding(torch.tensor(ids, device=device), self._embeddings)
        embeddings[:, :num_images] = stack_images(image_tokens, (num_images, embeddings.shape[2]))
        if min(lengths) == longest:
            return embeddings, None
        places = torch.arange(longest, device=device)
        return embeddings, (places < torch.tensor(lengths, device=device)[:, None]).long()


class _DecodeSpan:
    """One span's step: its self-attention bias and masks, made once and read by all layers."""

    def __init__(self, step: Step, bias: torch.Tensor) -> None:
        """bias (heads, distance) is added to the scores of keys `distance` tokens back."""
        self._step = step
        prefix, live = step.shape.prefix, step.live
        times = torch.arange(live - prefix, device=bias.device) // step.shape.num_rows
        distances = (step.lengths[:, None] - times).clamp(min=0)
        by_head = bias[:, distances].transpose(0, 1)[:, :, None]
        self._tail_mask = torch.where(step.mask[:, None, :, prefix:], by_head, -torch.inf)
        self._prefix_mask = additive(step.mask[:, None, :1, :prefix], bias.dtype)

    def attend_to_tail(self, layer: int, states: torch.Tensor) -> torch.Tensor:
        """states (rows, 3 * width): query, key and value; returns (rows, width)."""
        step, width = self._step, states.shape[1] // 3
        step.cache.write(layer, step.cells, states[:, width:])
        keys, values = step.cache.read(layer, step.span.start, step.span.stop, step.shape.prefix, step.live)
        return attend(states[:, :width], keys, values, self._tail_mask, scale=1.0)

    def attend_to_prefix(self, layer: int, queries: torch.Tensor) -> torch.Tensor:
        """queries (rows, width); returns (rows, width)."""
        step = self._step
        keys, values = step.cache.read(layer, step.span.start, step.span.stop, 0, step.shape.prefix)
        return attend(queries, keys, values, self._prefix_mask, scale=1.0)


class _Layer:
    """One decoder layer, in the pieces that lie around its two attentions; hidden is (rows, d_model)."""

    def __init__(self, block: Any) -> None:
        own, cross, feed = block.layer[0], block.layer[1], block.layer[2]
        self._own_norm, self._cross_norm, self._feed_norm = (_Norm(part.layer_norm) for part in (own, cross, feed))
        self._own_inputs = fuse([own.SelfAttention.q, own.SelfAttention.k, own.SelfAttention.v])
        self._own_output = linear_of(own.SelfAttention.o)
        self._cross_query = linear_of(cross.EncDecAttention.q)
        self._cross_inputs = fuse([cross.EncDecAttention.k, cross.EncDecAttention.v])
        self._cross_output = linear_of(cross.EncDecAttention.o)
        dense = feed.DenseReluDense
        self._is_gated = hasattr(dense, "wi_0")
        self._up = fuse([dense.wi_0, dense.wi_1]) if self._is_gated else linear_of(dense.wi)
        self._down = linear_of(dense.wo)
        self._down_dtype = dense.wo.weight.dtype
        self._activation = _activation(dense.act)

    def cross_states(self, encoded: torch.Tensor) -> torch.Tensor:
        """encoded (n, tokens, d_model) -> keys and values (n, tokens, 2 * width)."""
        return self._cross_inputs(encoded)

    def own_states(self, hidden: torch.Tensor) -> torch.Tensor:
        """Query, key and value (rows, 3 * width) of the self-attention."""
        return self._own_inputs(self._own_norm(hidden))

    def add_own(self, hidden: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        return hidden + self._own_output(mixed)

    def cross_query(self, hidden: torch.Tensor) -> torch.Tensor:
        """(rows, width)."""
        return self._cross_query(self._cross_norm(hidden))

    def add_cross(self, hidden: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        return hidden + self._cross_output(mixed)

    def feed_forward(self, hidden: torch.Tensor) -> torch.Tensor:
        inner = self._up(self._feed_norm(hidden))
        if self._is_gated:
            gate, linear = inner.chunk(2, dim=-1)
            inner = self._activation(gate) * linear
        else:
            inner = self._activation(inner)
        # `wo` may be kept in float32 in a model of lower precision.
        return hidden + self._down(inner.to(self._down_dtype))


class _Norm:
    """T5LayerNorm: no mean, no bias, and the variance in float32 whatever the dtype."""

    def __init__(self, module: Any) -> None:
        self._weight: torch.Tensor = module.weight.data
        self._eps: float = module.variance_epsilon

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        variance = hidden.float().pow(2).mean(-1, keepdim=True)
        hidden = hidden * torch.rsqrt(variance + self._eps)
        if self._weight.dtype in (torch.float16, torch.bfloat16):
            hidden = hidden.to(self._weight.dtype)
        return self._weight * hidden


def _activation(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Replace Flan-T5's GELU, eight operations in transformers, by PyTorch's one."""
    return partial(F.gelu, approximate="tanh") if isinstance(module, NewGELUActivation) else module


def _bias_by_distance(attention: Any) -> torch.Tensor:
    """(heads, longest tail): the decoder's relative position bias for keys 0, 1, 2, ... tokens back."""
    back = torch.arange(TAIL_CLASSES[-1], device=attention.relative_attention_bias.weight.device)
    buckets = attention._relative_position_bucket(
        -back,
        bidirectional=False,
        num_buckets=attention.relative_attention_num_buckets,
        max_distance=attention.relative_attention_max_distance,
    )
    return attention.relative_attention_bias(buckets).detach().T.contiguous()  # type: ignore[no-any-return]
