"""Fine-tuning on two devices as a process of its own, for tests that look at what its figures count.

python -m tests.tasks.two_devices_run OUT
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from prithvi.catalog import dataset
from prithvi.data import Chip, ChipDataset
from tests.conftest import SPAIN, SPAIN_LABEL, small_task


def loader(chips: int, crop: int | None = None) -> DataLoader[Any]:
    """Squares of the shipped chip one by one; training crops of it in pairs."""
    squares = [Chip(str(n), SPAIN, SPAIN_LABEL, rows=(64 * n, 64 * n + 64), columns=(200, 264)) for n in range(chips)]
    return DataLoader(ChipDataset(squares, dataset("sen1floods11"), crop), 2 if crop else 1)


def trainer(**options: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, **options,
    )  # fmt: skip


def main(out: Path) -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    task, run = small_task(lr=1e-3), trainer(max_steps=2, devices=2, strategy="ddp")
    run.fit(task, loader(8, 32), loader(5))
    if run.is_global_zero:
        torch.save(task.state_dict(), out / "weights.pt")
        figures = {name: float(value) for name, value in run.callback_metrics.items() if name.startswith("val/")}
        (out / "figures.json").write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
