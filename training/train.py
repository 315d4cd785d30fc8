"""Trains a checkpoint: `python -m training.train --model demo`, then `--model demo-t5`.

For `demo` the tower and the Q-Former learn from dense labels first, then OPT joins, and at last the tower is
frozen, as BLIP-2's is, and words go on alone: they are cheap and need many more examples than seeing does.
`demo-t5` keeps the tower and the Q-Former of `demo` and learns its words only. The state is saved on the way:
the same command continues where it was stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerFast

from training.checkpoint import CHECKPOINTS, save
from training.data import Packer, batches
from training.model import blip2_config, new_model, opt_config, t5_config
from training.pictures.pool import Bytes, build_shard, load_pool
from training.rows import read, read_scenes, row_batches
from training.seen import see, seen_batches
from training.texts.opt_texts import OptPacker, opt_loss
from training.texts.t5_texts import T5Loss, T5Packer
from training.texts.tokenizer import opt_tokenizer, t5_tokenizer
from training.trainer import Plan, TextLoss, Trainer, run


@dataclass(frozen=True)
class Recipe:
    """The ingredients of a checkpoint."""

    tokenizer: PreTrainedTokenizerFast
    text_config: Any
    packer: Packer
    loss: TextLoss
    plan: Plan
    num_shards: int  # of the pool


def opt_recipe() -> Recipe:
    """`demo`: everything is trained from scratch."""
    tokenizer = opt_tokenizer()
    plan = Plan(steps=8_000, tower_steps=2_400, seeing_steps=4_800)
    return Recipe(tokenizer, opt_config(tokenizer), OptPacker(tokenizer), opt_loss, plan, num_shards=5)


def t5_recipe() -> Recipe:
    """`demo-t5`: a Flan-T5 behind the tower and the Q-Former of `demo`."""
    tokenizer = t5_tokenizer()
    plan = Plan(
        steps=4_000,
        tower_steps=0,
        seeing_steps=2_900,  # nothing is seen: the rate falls here for the first time
        frozen_eyes=True,
        batch_size=48,
        learning_rate=3e-3,
        muon_share=1.5,
        falling_share=0.25,
    )
    return Recipe(tokenizer, t5_config(tokenizer), T5Packer(tokenizer), T5Loss(), plan, num_shards=2)


RECIPES = {"demo": opt_recipe, "demo-t5": t5_recipe}


def see_as(model: Blip2ForConditionalGeneration, folder: Path) -> None:
    """Give the model the tower, the Q-Former and the queries of a trained checkpoint."""
    trained = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    model.vision_model.load_state_dict(trained.vision_model.state_dict())
    model.qformer.load_state_dict(trained.qformer.state_dict())
    model.query_tokens.data.copy_(trained.query_tokens)


def start(recipe: Recipe, seed: int, state_file: Path) -> Trainer:
    """Return a trainer at its beginning, or where it was stopped."""
    model = new_model(blip2_config(recipe.text_config, recipe.tokenizer), seed)
    if recipe.plan.frozen_eyes:
        see_as(model, CHECKPOINTS / "demo")
    trainer = Trainer(model, recipe.plan, recipe.loss)
    if state_file.exists():
        trainer.go_on_from(torch.load(state_file))
    return trainer


def learn(trainer: Trainer, images: Bytes, packer: Packer, state_file: Path) -> None:
    """Run all parts of a plan."""
    plan = trainer.plan
    if plan.frozen_eyes:
        rows, scenes = read(trainer.model, images), read_scenes(len(images))
        run(trainer, row_batches(rows, scenes, packer, plan.batch_size, trainer.step), plan.steps, state_file)
        return
    seeing = batches(images, packer, plan.batch_size, plan.num_texts, trainer.step)
    run(trainer, seeing, plan.seeing_steps, state_file)
    patches = see(trainer.vision, images[: plan.num_seen])
    saying = seen_batches(patches, packer, plan.batch_size, trainer.step)
    run(trainer, saying, plan.steps, state_file)


def main() -> None:
    """Draw the pool if need be, train, write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=RECIPES, default="demo")
    parser.add_argument("--work", type=Path, default=Path("work"), help="folder for the pool and the state")
    parser.add_argument("--output", type=Path, help="default: blip2_serve/checkpoints/<model>")
    parser.add_argument("--steps", type=int, help="in all, those already made included")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    recipe = RECIPES[options.model]()
    plan = replace(recipe.plan, steps=options.steps or recipe.plan.steps)
    for shard in range(recipe.num_shards):
        build_shard(options.work / "pool", shard)
    state_file = options.work / f"{options.model}.state.pt"
    trainer = start(replace(recipe, plan=plan), options.seed, state_file)
    learn(trainer, load_pool(options.work / "pool", recipe.num_shards), recipe.packer, state_file)
    save(trainer.model, recipe.tokenizer, options.output or CHECKPOINTS / options.model)


if __name__ == "__main__":
    main()
