"""Trains the matching and contrastive heads: `python -m training.retrieval.train`.

The tower is that of `demo`, frozen; what it makes of the pool's pictures is computed once. The state is saved on the
way: the same command continues where it was stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import Blip2ForImageTextRetrieval

from training.checkpoint import CHECKPOINTS
from training.pictures.pool import Bytes, build_shard, load_pool
from training.retrieval.batches import Batch, batches, see
from training.retrieval.loss import losses
from training.retrieval.model import NAME, new_model, save
from training.rows import read_scenes
from training.texts.tokenizer import bert_tokenizer

STEPS = 2_600
BATCH_SIZE = 40
LEARNING_RATE = 1e-3
WARM_UP_STEPS = 100
FALLING_SHARE = 0.5
WEIGHT_DECAY = 0.05
LOG_EVERY, SAVE_EVERY = 50, 200


def rate(step: int, steps: int) -> float:
    """Return the learning rate of a step: it rises, stays, and falls to zero."""
    return LEARNING_RATE * min(1.0, (step + 1) / WARM_UP_STEPS, (steps - step) / (FALLING_SHARE * steps))


class Trainer:
    """A model in training, its optimiser, and the number of steps made."""

    def __init__(self, model: Blip2ForImageTextRetrieval, steps: int) -> None:
        self.model, self.steps, self.step = model, steps, 0
        self.parameters = [each for each in model.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY, fused=True)

    def learn(self, batch: Batch) -> dict[str, float]:
        """Make one step; returns its measurements by name."""
        loss, measured = losses(self.model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate(self.step, self.steps)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        return measured

    def state(self) -> dict[str, Any]:
        """Return everything needed to continue."""
        return {"step": self.step, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def go_on_from(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def seen(model: Blip2ForImageTextRetrieval, images: Bytes, file: Path) -> Tensor:
    """Return what the tower makes of the pictures, see `batches.see`; kept in `file`, as it takes minutes."""
    if not file.exists():
        torch.save(see(model, images), file)
    states: Tensor = torch.load(file)
    return states


def run(trainer: Trainer, data: Iterator[Batch], file: Path) -> None:
    """Train to the last step, saving the state in `file` on the way."""
    sums: dict[str, float] = {}
    with tqdm(total=trainer.steps, initial=trainer.step, mininterval=5) as bar:
        while trainer.step < trainer.steps:
            for name, value in trainer.learn(next(data)).items():
                sums[name] = sums.get(name, 0.0) + value / LOG_EVERY
            bar.update()
            if trainer.step % LOG_EVERY == 0:
                bar.write(f"{trainer.step} " + " ".join(f"{name}={value:.3f}" for name, value in sums.items()))
                sums = {}
            if trainer.step % SAVE_EVERY == 0 or trainer.step == trainer.steps:
                torch.save(trainer.state(), file.with_suffix(".partial"))
                file.with_suffix(".partial").replace(file)


def main() -> None:
    """Draw the pool if need be, train, write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("work"), help="folder for the pool and the state")
    parser.add_argument("--output", type=Path, default=CHECKPOINTS / NAME)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--shards", type=int, default=1, help="of the pool")
    options = parser.parse_args()
    for shard in range(options.shards):
        build_shard(options.work / "pool", shard)
    images = load_pool(options.work / "pool", options.shards)
    tokenizer, state_file = bert_tokenizer(), options.work / f"{NAME}.state.pt"
    trainer = Trainer(new_model(tokenizer, seed=0), options.steps)
    if state_file.exists():
        trainer.go_on_from(torch.load(state_file))
    states, scenes = seen(trainer.model, images, options.work / f"{NAME}.states.pt"), read_scenes(len(images))
    run(trainer, batches(states, scenes, tokenizer, BATCH_SIZE, trainer.step), state_file)
    save(trainer.model, bert_tokenizer(), options.output)  # a used one would be saved with its padding


if __name__ == "__main__":
    main()
