"""The two losses of BLIP-2's first stage (Li et al., arXiv 2301.12597, section 3.2): contrast and matching."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, normalize
from transformers import Blip2ForImageTextRetrieval

from training.retrieval.batches import Batch, Texts

TEMPERATURE = 0.05
NO, YES = 0, 1  # classes of the matching head


@dataclass
class Seen:
    """n pictures: patches (n, patches, vision width) after the last norm, unit vectors (n, query tokens, WIDTH)."""

    patches: Tensor
    vectors: Tensor


def look(model: Blip2ForImageTextRetrieval, states: Tensor) -> Seen:
    """Let the queries read pictures, given as the tower's states before its last norm."""
    patches = model.vision_model.post_layernorm(states)
    queries = model.query_tokens.expand(len(patches), -1, -1)
    answers = model.qformer(query_embeds=queries, encoder_hidden_states=patches).last_hidden_state
    return Seen(patches, normalize(model.vision_projection(answers), dim=-1))


def read(model: Blip2ForImageTextRetrieval, texts: Texts) -> Tensor:
    """Unit vectors of n texts, (n, WIDTH)."""
    words = model.embeddings(input_ids=texts.ids)
    states = model.qformer(query_embeds=words, query_length=0, attention_mask=texts.attention_mask).last_hidden_state
    return normalize(model.text_projection(states[:, 0]), dim=-1)


def match(model: Blip2ForImageTextRetrieval, patches: Tensor, texts: Texts) -> Tensor:
    """Logits (n, 2) of n pictures with n texts, pair by pair."""
    queries = model.query_tokens.expand(len(patches), -1, -1)
    num_queries = queries.shape[1]
    mask = torch.cat([texts.ids.new_ones(len(patches), num_queries), texts.attention_mask], dim=1)
    states = model.qformer(
        query_embeds=model.embeddings(input_ids=texts.ids, query_embeds=queries),
        query_length=num_queries,
        attention_mask=mask,
        encoder_hidden_states=patches,
    ).last_hidden_state
    logits: Tensor = model.itm_head(states[:, :num_queries]).mean(dim=1)
    return logits


def losses(model: Blip2ForImageTextRetrieval, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of a batch, and its measurements by name."""
    num, seen = len(batch.states), look(model, batch.states)
    true = Texts(batch.texts.ids[:num], batch.texts.attention_mask[:num])
    cosines = (seen.vectors @ read(model, true).T).amax(dim=1)  # (pictures, texts)
    contrast = _contrast(cosines / TEMPERATURE, batch.is_true)
    hardest = cosines.detach().masked_fill(batch.is_true, -2).argmax(dim=1)
    ids = torch.cat([batch.texts.ids, true.ids[hardest]])
    masks = torch.cat([batch.texts.attention_mask, true.attention_mask[hardest]])
    logits = match(model, seen.patches.repeat(len(ids) // num, 1, 1), Texts(ids, masks))
    labels = torch.tensor([YES] * num + [NO] * (len(ids) - num))
    matching = cross_entropy(logits, labels)
    measured = {
        "contrast": contrast.item(),
        "matching": matching.item(),
        "first": _share(batch.is_true.gather(1, cosines.argmax(dim=1, keepdim=True))),
        "told apart": _share(logits.argmax(dim=1) == labels),
    }
    return contrast + 2 * matching, measured


def _contrast(logits: Tensor, is_true: Tensor) -> Tensor:
    """Cross-entropy in both directions; several texts may be true of one picture."""
    targets = is_true.float()
    ways = ((logits, targets), (logits.T, targets.T))
    return torch.stack(
        [-(log_softmax(way, 1) * aim / aim.sum(1, keepdim=True)).sum(1).mean() for way, aim in ways]
    ).mean()


def _share(right: Tensor) -> float:
    return right.float().mean().item()
