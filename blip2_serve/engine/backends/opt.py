"""OPT, decoder-only: the prefix is image tokens and prompt, and it is part of every row's attention.

The layers are written out here, on the weights of transformers' modules (5.24, models/opt/modeling_opt.py): its
decoder takes one place per batch row, and ours has rows at different places whose past is a tree. All variants that
transformers knows work: norms before or after, projected embeddings, no biases, no final norm.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from blip2_serve.engine.backends.base import additive, attend, join, stack_images
from blip2_serve.engine.cache.group import Span, Step
from blip2_serve.engine.cache.kv_cache import CacheGeometry
from blip2_serve.engine.sequence import Prefix, SequenceState
from blip2_serve.model.linear import fuse, linear_of, norm_of
from blip2_serve.model.reference import end_ids_of


class OptBackend:
    """Decodes with an `OPTForCausalLM` whose first `num_query_tokens` positions are image tokens."""

    def __init__(self, language_model: Any, *, image_token_id: int, num_query_tokens: int) -> None:
        decoder, config = language_model.model.decoder, language_model.config
        weight = decoder.embed_tokens.weight
        self.vocab_size: int = language_model.lm_head.weight.shape[0]
        self.end_ids = end_ids_of(language_model)
        self.max_length: int = config.max_position_embeddings
        self.geometry = CacheGeometry(
            num_layers=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
            head_dim=config.hidden_size // config.num_attention_heads,
            dtype=weight.dtype,
            device=weight.device,
            layer_devices=tuple(layer.fc1.weight.device for layer in decoder.layers),
        )
        head = language_model.lm_head.weight.device
        self._image_ids = (image_token_id,) * num_query_tokens
        self._embeddings = weight.data
        self._positions: torch.Tensor = decoder.embed_positions.weight.data[decoder.embed_positions.offset :]
        self._positions = self._positions.to(weight.device)
        self._project_in = None if decoder.project_in is None else decoder.project_in.weight.data.to(weight.device)
        self._project_out = None if decoder.project_out is None else decoder.project_out.weight.data.to(head)
        self._final_norm = None if decoder.final_layer_norm is None else norm_of(decoder.final_layer_norm.to(head))
        self._head = language_model.lm_head.weight.data
        self._layers = [_Layer(layer) for layer in decoder.layers]
        self._width: int = config.hidden_size
        self._scale = self.geometry.head_dim**-0.5

    def prefix(self, prompt_ids: tuple[int, ...]) -> Prefix:
        """Image tokens and prompt without its last token, which the first step feeds."""
        return Prefix(len(self._image_ids) + len(prompt_ids) - 1, prompt_ids[-1], self._image_ids + prompt_ids)

    def prefill(self, span: Span, image_tokens: Sequence[torch.Tensor]) -> None:
        """Compute all layers' keys and values of the prefixes and store them."""
        embeddings = self._prefix_embeddings(span.sequences, image_tokens)
        hidden = self._project(embeddings) + self._positions[: embeddings.shape[1]]
        for index, layer in enumerate(self._layers):
            hidden = hidden.to(self.geometry.device_of(index))
            states = layer.states(hidden)
            span.group.cache.write_prefix(index, span.start, span.stop, states[..., self._width :])
            if layer is not self._layers[-1]:
                hidden = layer.finish(hidden, self._attend_causally(states))

    def decode(self, steps: Sequence[Step]) -> torch.Tensor:
        tokens = join([step.tokens.view(-1) for step in steps])
        positions = join([step.positions[:, None].expand(step.tokens.shape).reshape(-1) for step in steps])
        hidden = self._project(F.embedding(tokens, self._embeddings)) + F.embedding(positions, self._positions)
        sizes = [step.num_rows for step in steps]
        masks = [additive(step.mask[:, None], hidden.dtype) for step in steps]
        for index, layer in enumerate(self._layers):
            hidden = hidden.to(self.geometry.device_of(index))
            parts = zip(steps, masks, layer.states(hidden).split_with_sizes(sizes), strict=True)
            hidden = layer.finish(hidden, join([self._attend_to_block(index, *part) for part in parts]))
        hidden = hidden.to(self._head.device)
        if self._final_norm is not None:
            hidden = self._final_norm(hidden)
        if self._project_out is not None:
            hidden = F.linear(hidden, self._project_out)
        return F.linear(hidden, self._head).float().to(self.geometry.device)

    def _attend_to_block(self, layer: int, step: Step, mask: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """states (rows, 3 * width): query, key and value of one span's rows; returns (rows, width)."""
        step.cache.write(layer, step.cells, states[:, self._width :])
        keys, values = step.cache.read(layer, step.span.start, step.span.stop, 0, step.live)
        return attend(states[:, : self._width], keys, values, mask, self._scale)

    def _attend_causally(self, states: torch.Tensor) -> torch.Tensor:
        """states (n, tokens, 3 * width) -> (n, tokens, width).

        Padding is on the right: causal attention never looks at it, and the mask hides its cells later.
        """
        heads = states.view(*states.shape[:2], 3, self.geometry.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, keys, values = heads.unbind()
        mixed = F.scaled_dot_product_attention(query, keys, values, is_causal=True, scale=self._scale)
        return mixed.transpose(1, 2).flatten(2)

    def _prefix_embeddings(
        self, sequences: Sequence[SequenceState], image_tokens: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """(n, longest prefix, embedding width) in the compute dtype, padded on the right."""
        longest = max(sequence.prefix.num_cells for sequence in sequences)
        padding = [0] * longest
        ids = [(list(sequence.prefix.seen_ids[:-1]) + padding)[:longest] for sequence in sequences]
        embeddings = F.embedding(torch.tensor(ids, device=self._embeddings.device), self._embeddings)
        # As `masked_scatter` in transformers does it, which matters only where embeddings are projected and narrower
        # than the image tokens: the numbers are taken in order.
        places = embeddings[:, : len(self._image_ids)]
        images = stack_images(image_tokens, (len(self._image_ids), self._width))
        places.copy_(images.flatten(1)[:, : places[0].numel()].view(places.shape))
        return embeddings

    def _project(self, embeddings: torch.Tensor) -> torch.Tensor:
        if self._project_in is not None:
            embeddings = F.linear(embeddings, self._project_in)
        return embeddings


class _Layer:
    """One decoder layer, in two halves around its attention."""

    def __init__(self, layer: Any) -> None:
        attention = layer.self_attn
        self._norms_first: bool = layer.do_layer_norm_before
        self._inputs = fuse([attention.q_proj, attention.k_proj, attention.v_proj])
        self._output = linear_of(attention.out_proj)
        self._up, self._down = linear_of(layer.fc1), linear_of(layer.fc2)
        self._activation = layer.activation_fn.forward
        self._attention_norm = norm_of(layer.self_attn_layer_norm)
        self._final_norm = norm_of(layer.final_layer_norm)

    def states(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (..., width) -> query, key and value (..., 3 * width)."""
        return self._inputs(self._attention_norm(hidden) if self._norms_first else hidden)

    def finish(self, hidden: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """hidden and the output of its attention, (..., width) each -> the next layer's hidden."""
        hidden = hidden + self._output(mixed)
        if not self._norms_first:
            hidden = self._attention_norm(hidden)
        normed = self._final_norm(hidden) if self._norms_first else hidden
        hidden = hidden + self._down(self._activation(self._up(normed)))
        return hidden if self._norms_first else self._final_norm(hidden)
