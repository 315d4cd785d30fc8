"""A run: its learning rate, continuing where it stopped, and the parts that learn in each phase."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from training import trainer as trainer_module
from training.data import batches
from training.model import blip2_config, new_model, opt_config, t5_config
from training.pictures.pool import render
from training.rows import read, read_scenes, row_batches
from training.seen import see, seen_batches
from training.texts.opt_texts import OptPacker, opt_loss
from training.texts.t5_texts import T5Loss, T5Packer
from training.texts.tokenizer import opt_tokenizer, t5_tokenizer
from training.trainer import Plan, Trainer, run

TOKENIZER, T5_TOKENIZER = opt_tokenizer(), t5_tokenizer()
IMAGES = np.stack([render(index) for index in range(4)])
PLAN = Plan(steps=6, tower_steps=1, seeing_steps=3, batch_size=4, num_texts=2, warm_up_steps=1)


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip compiling, which takes longer than these few steps."""
    monkeypatch.setattr(trainer_module.torch, "compile", lambda module: module)


def new_trainer() -> Trainer:
    return Trainer(new_model(blip2_config(opt_config(TOKENIZER), TOKENIZER), seed=0), PLAN, opt_loss)


def new_t5_trainer() -> Trainer:
    plan = Plan(steps=4, tower_steps=0, seeing_steps=0, frozen_eyes=True, warm_up_steps=1, muon_share=2.0)
    model = new_model(blip2_config(t5_config(T5_TOKENIZER), T5_TOKENIZER), seed=0)
    return Trainer(model, plan, T5Loss(compiled=False))


def weights(part: Any) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in part.parameters()])


def test_the_rate_rises_and_falls_to_zero_twice() -> None:
    plan = Plan(steps=400, tower_steps=0, seeing_steps=200, warm_up_steps=50, learning_rate=1.0)
    assert [plan.rate(step) for step in (24, 49, 99, 150, 198)] == pytest.approx([0.5, 1, 1, 0.5, 0.02])
    assert [plan.rate(step) for step in (200, 249, 350, 400)] == pytest.approx([0.02, 1, 0.5, 0])


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    packer, file = OptPacker(TOKENIZER), tmp_path / "state.pt"
    whole, first, second = new_trainer(), new_trainer(), new_trainer()
    run(whole, batches(IMAGES, packer, 4, 2), 3, tmp_path / "other.pt")
    run(first, batches(IMAGES, packer, 4, 2), 2, file)
    second.go_on_from(torch.load(file))
    run(second, batches(IMAGES, packer, 4, 2, start=second.step), 3, file)
    assert second.step == 3
    assert torch.equal(weights(second.model), weights(whole.model))


def test_the_language_model_joins_after_the_tower_and_the_tower_is_frozen_at_last() -> None:
    trainer, packer = new_trainer(), OptPacker(TOKENIZER)
    stream = batches(IMAGES, packer, 4, 2)
    assert "text" not in trainer.learn(next(stream))
    words = weights(trainer.model.language_model)
    assert "text" in trainer.learn(next(stream))
    assert not torch.equal(words, weights(trainer.model.language_model))
    tower, qformer = weights(trainer.model.vision_model), weights(trainer.model.qformer)
    trainer.learn(next(seen_batches(see(trainer.vision, IMAGES), packer, 4)))
    assert torch.equal(tower, weights(trainer.model.vision_model))
    assert not torch.equal(qformer, weights(trainer.model.qformer))


def test_words_alone_learn_from_kept_rows_and_a_stopped_run_goes_on(tmp_path: Path) -> None:
    packer, file = T5Packer(T5_TOKENIZER), tmp_path / "state.pt"
    whole, first, second = new_t5_trainer(), new_t5_trainer(), new_t5_trainer()
    rows = read(whole.model, IMAGES)
    before = {name: parameter.clone() for name, parameter in whole.model.named_parameters()}
    run(whole, row_batches(rows, read_scenes(4), packer, 2), 2, tmp_path / "other.pt")
    changed = {name for name, parameter in whole.model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {name for name in before if name.startswith("language_")}
    run(first, row_batches(rows, read_scenes(4), packer, 2), 1, file)
    second.go_on_from(torch.load(file))
    run(second, row_batches(rows, read_scenes(4), packer, 2, start=1), 2, file)
    assert torch.equal(weights(second.model), weights(whole.model))
