"""Training steps: the loss of each kind of batch, the learning rate, and the state from which a run continues."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import Blip2ForConditionalGeneration

from training.data import Batch
from training.patch_heads import PatchHeads
from training.query_heads import QueryHeads
from training.rows import RowBatch
from training.seen import SeenBatch

TextLoss = Callable[[Blip2ForConditionalGeneration, Tensor, Any], Tensor]
Measured = dict[str, float]

AUXILIARY_WEIGHT = 0.5  # of the dense labels once the language model has joined
WEIGHT_DECAY = 0.05
LOG_EVERY = 100
SAVE_EVERY = 200


@dataclass(frozen=True)
class Plan:
    """Lengths and rates of a run. The rate rises, stays and falls to zero twice: while seeing, and after."""

    steps: int
    tower_steps: int  # the first ones, without the language model
    seeing_steps: int  # the first ones, in which the tower learns; then it is frozen and words go on
    frozen_eyes: bool = False  # the tower and the Q-Former are finished: words and the projection learn
    batch_size: int = 64
    num_texts: int = 32  # pictures of a batch that have texts while the tower learns
    num_seen: int = 30_000  # pictures that words are learned from once the tower is frozen
    learning_rate: float = 1.2e-3
    muon_share: float | None = None  # of the learning rate, for the language model's matrices; None: AdamW for all
    warm_up_steps: int = 100
    falling_share: float = 0.5  # of each part's steps, at its end

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        first, last = (0, self.seeing_steps) if step < self.seeing_steps else (self.seeing_steps, self.steps)
        rising = (step - first + 1) / self.warm_up_steps
        falling = (last - step) / (self.falling_share * (last - first))
        return self.learning_rate * max(0.0, min(1.0, rising, falling))


class Trainer:
    """A model in training: weights, optimisers, and the number of steps made."""

    def __init__(self, model: Blip2ForConditionalGeneration, plan: Plan, text_loss: TextLoss) -> None:
        self.model, self.plan, self.text_loss, self.step = model, plan, text_loss, 0
        self.heads = nn.ModuleDict({"patches": PatchHeads(), "queries": QueryHeads()})
        self.vision: Callable[..., Any] = torch.compile(model.vision_model)
        self.parameters = [*model.parameters(), *self.heads.parameters()]
        matrices = [] if plan.muon_share is None else _inner_matrices(model.language_model)
        self.optimizers = _optimizers(self.parameters, matrices, plan.muon_share or 1.0)

    def learn(self, batch: Batch | SeenBatch | RowBatch) -> Measured:
        """Make one step; returns its measurements by name."""
        with torch.autocast("cpu", torch.bfloat16):
            loss, measured = self.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.plan.rate(self.step) * group["share"]
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        return measured

    def loss(self, batch: Batch | SeenBatch | RowBatch) -> tuple[Tensor, Measured]:
        """Return the loss of a batch of any kind, and its measurements by name."""
        match batch:
            case Batch():
                return self.see_and_say(batch)
            case SeenBatch():
                return self.ask_and_say(batch)
            case RowBatch():
                text_loss = self.text_loss(self.model, batch.rows, batch.texts)
                return text_loss, {"text": text_loss.item()}

    def see_and_say(self, batch: Batch) -> tuple[Tensor, Measured]:
        """Return the loss while the tower learns: dense labels, and texts after `tower_steps`."""
        patches = self.vision(pixel_values=batch.pixels).last_hidden_state
        queries = self.ask(patches)
        loss, measured = self.heads["queries"](queries, batch.query_labels)
        loss = loss + self.heads["patches"](patches, batch.patch_labels)
        measured["auxiliary"] = loss.item()
        if self.step < self.plan.tower_steps:
            return loss, measured
        text_loss = self.text_loss(self.model, queries[: self.plan.num_texts], batch.texts)
        return text_loss + AUXILIARY_WEIGHT * loss, measured | {"text": text_loss.item()}

    def ask_and_say(self, batch: SeenBatch) -> tuple[Tensor, Measured]:
        """Return the loss once the tower is frozen: texts, and labels of the queries."""
        queries = self.ask(batch.patches.float())
        text_loss = self.text_loss(self.model, queries, batch.texts)
        loss, measured = self.heads["queries"](queries, batch.query_labels)
        return text_loss + AUXILIARY_WEIGHT * loss, measured | {"text": text_loss.item()}

    def ask(self, patches: Tensor) -> Tensor:
        """Run the Q-Former on patches (n, 1 + GRID * GRID, VISION_WIDTH): (n, NUM_QUERY_TOKENS, TEXT_WIDTH)."""
        start = self.model.query_tokens.expand(len(patches), -1, -1)
        queries: Tensor = self.model.qformer(query_embeds=start, encoder_hidden_states=patches).last_hidden_state
        return queries

    def state(self) -> dict[str, Any]:
        """Return everything needed to continue."""
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        model, heads = self.model.state_dict(), self.heads.state_dict()
        return {"step": self.step, "model": model, "heads": heads, "optimizers": optimizers}

    def go_on_from(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


def run(trainer: Trainer, data: Iterator[Batch | SeenBatch | RowBatch], last_step: int, file: Path) -> None:
    """Train up to `last_step`, saving the state in `file` on the way."""
    sums: Measured = {}
    with tqdm(total=last_step, initial=trainer.step, mininterval=5) as bar:
        while trainer.step < last_step:
            for name, value in trainer.learn(next(data)).items():
                sums[name] = sums.get(name, 0.0) + value / LOG_EVERY
            bar.update()
            if trainer.step % LOG_EVERY == 0:
                means = " ".join(f"{name}={value:.3f}" for name, value in sums.items())
                bar.write(f"{trainer.step} {means}")
                sums = {}
            if trainer.step % SAVE_EVERY == 0 or trainer.step == last_step:
                _write(trainer.state(), file)


def _write(state: dict[str, Any], file: Path) -> None:
    """Replace the state file atomically, so that a stopped run never leaves half of one."""
    partial = file.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(file)


def _optimizers(parameters: list[nn.Parameter], inner: list[nn.Parameter], share: float) -> list[torch.optim.Optimizer]:
    """Use Muon for `inner`, at a share of the rate, AdamW for the others: matrices decay, biases and norms do not."""
    others = [parameter for parameter in parameters if not any(parameter is matrix for matrix in inner)]
    matrices = [parameter for parameter in others if parameter.ndim > 1]
    vectors = [parameter for parameter in others if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW([group | {"share": 1.0} for group in groups], betas=(0.9, 0.98), fused=True)
    if not inner:
        return [adamw]
    group = {"params": inner, "share": share}
    return [torch.optim.Muon([group], weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"), adamw]


def _inner_matrices(language_model: nn.Module) -> list[nn.Parameter]:
    """Return the matrices between embeddings and head, for which Muon is meant."""
    layers = {name: module for name, module in language_model.named_modules() if isinstance(module, nn.Linear)}
    return [parameter for name, layer in layers.items() if name != "lm_head" for parameter in layer.parameters()]
