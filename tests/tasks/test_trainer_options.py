"""What Lightning's trainer offers besides steps and devices: its search for a rate, its precisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import LearningRateFinder
from lightning.pytorch.tuner import Tuner
from torch.utils.data import DataLoader

from prithvi.catalog import dataset
from prithvi.chips import ChipStore
from prithvi.data import Chip, ChipDataset, PretrainDataModule
from prithvi.errors import ConfigError
from prithvi.tasks import PretrainTask
from tests.conftest import SPAIN, SPAIN_LABEL, small_task
from tests.data.conftest import store  # noqa: F401
from tests.tasks.pretrain_run import SHAPE

pytestmark = pytest.mark.filterwarnings(
    "ignore:The 't.*_dataloader' does not", "ignore:You defined a .valid", "ignore:no pixel of the training chips"
)


class Peak(L.Callback):
    """The highest rate of any step but the first, whose rate the search sets itself."""

    rate = 0.0

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step > 0:
            self.rate = max(self.rate, *(group["lr"] for group in trainer.optimizers[0].param_groups))


def trainer(*callbacks: L.Callback, **options: Any) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    more = {"enable_checkpointing": False, "num_sanity_val_steps": 0, "limit_val_batches": 0}
    return L.Trainer(**{**quiet, **more, **options}, callbacks=list(callbacks))


def chips() -> DataLoader[Any]:
    return DataLoader(ChipDataset([Chip("Spain", SPAIN, SPAIN_LABEL)], dataset("sen1floods11"), 32, 64), 2)


@pytest.mark.parametrize("by_callback", [True, False])
def test_a_rate_that_was_searched_for_is_the_peak_of_the_schedule(by_callback: bool) -> None:
    task, peak = small_task(lr=1e-7), Peak()
    if by_callback:
        search = LearningRateFinder(num_training_steps=16, early_stop_threshold=None)
        trainer(search, peak, max_steps=12).fit(task, chips())
        found = search.optimal_lr.suggestion()
    else:
        options = {"num_training": 16, "early_stop_threshold": None}
        found = Tuner(trainer(max_steps=12)).lr_find(task, chips(), **options).suggestion()
        trainer(peak, max_steps=12).fit(task, chips())
    assert found > 1e-7
    assert peak.rate == pytest.approx(found)
    assert task.hparams["lr"] == found  # which the model folder records


def test_a_pretraining_uses_the_rate_too(store: Callable[..., ChipStore]) -> None:  # noqa: F811
    data = PretrainDataModule([str(store(count=24).path)], batch_size=4, num_workers=0)
    task = PretrainTask(contract=data.contract.to_dict(), model_options=SHAPE, crop=24, lr=1e-7)
    search, peak = LearningRateFinder(num_training_steps=16, early_stop_threshold=None), Peak()
    trainer(search, peak, max_steps=12).fit(task, datamodule=data)
    assert peak.rate == pytest.approx(search.optimal_lr.suggestion())


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true"])
def test_weights_in_another_precision_are_refused_before_the_first_step(precision: str) -> None:
    with pytest.raises(ConfigError, match=rf"trainer.precision is {precision}, .*: say bf16-mixed"):
        trainer(max_steps=1, precision=precision).fit(small_task(), chips())


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_the_precisions_that_the_refusal_names_train(precision: str) -> None:
    task = small_task(lr=1e-2)
    before = task.model.head.linear.weight.clone()
    trainer(max_steps=2, precision=precision).fit(task, chips())
    assert not torch.equal(task.model.head.linear.weight, before)
