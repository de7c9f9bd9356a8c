"""Which patch and width the shipped model should have: the same minutes of pretraining, measured on imagery kept back.

    python benchmarks/bench_pretraining_shapes.py STORES [--seconds 150]

STORES is what pretraining_imagery.py wrote. Reconstruction hides 75 % of 16-pixel squares for every shape alike; the
probe is a linear classifier on frozen features (shadow, water, land, cloud; left half of a scene against right half).
Neither is from a source that anything else is reported on.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
from reconstruction_errors import reconstruction_errors
from torch.utils.data import DataLoader

from prithvi.chips import ChipStore
from prithvi.data import PretrainDataModule, StoreDataset
from prithvi.tasks import PretrainTask
from prithvi.tasks.probe import linear_probe

# name, patch, width, depth, heads, decoder width, decoder depth
SHAPES = [
    ("patch 4, 128 x 4", 4, 128, 4, 4, 64, 2),
    ("patch 4, 192 x 4", 4, 192, 4, 6, 64, 2),
    ("patch 8, 128 x 4", 8, 128, 4, 4, 64, 2),
    ("patch 8, 192 x 4", 8, 192, 4, 6, 64, 2),
    ("patch 16, 192 x 4", 16, 192, 4, 6, 64, 2),
]


class Until(L.Callback):
    """Stops after a while; the schedule is laid for a measured number of steps."""

    def __init__(self) -> None:
        self.began = 0.0
        self.steps = 0

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.steps += 1
        if self.steps == 10:
            self.began = time.perf_counter()


def train(stores: Path, shape: tuple[str, int, int, int, int, int, int], steps: int) -> tuple[PretrainTask, float]:
    """A trained task and its seconds a step."""
    _, patch, width, depth, heads, decoder_width, decoder_depth = shape
    data = PretrainDataModule(
        [str(stores / f"{name}.zarr") for name in ("sr", "toa")], [2, 1], batch_size=32, num_workers=1, accept=["level"]
    )
    task = PretrainTask(
        "prithvi_hls_tiny", data.contract.to_dict(), crop=64, flips="all", lr=1e-3,
        model_options={"patch_size": (1, patch, patch), "embed_dim": width, "depth": depth, "num_heads": heads,
                       "decoder_embed_dim": decoder_width, "decoder_depth": decoder_depth},
    )  # fmt: skip
    clock = Until()
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, gradient_clip_val=20.0, callbacks=[clock],
    )  # fmt: skip
    trainer.fit(task, datamodule=data)
    return task, (time.perf_counter() - clock.began) / max(1, steps - 10)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("stores", type=Path)
    parser.add_argument("--seconds", type=float, default=150)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    held = [StoreDataset(options.stores / f"held_out_{name}.zarr") for name in ("sr", "toa")]
    probe = ChipStore(options.stores / "probe.zarr")
    names = [entry.name for entry in probe.spec.classes]
    print(f"{'shape':20} parameters   steps   MAE Landsat   MAE Sentinel   probe mIoU   mean accuracy")
    for shape in SHAPES:
        _, each = train(options.stores, shape, 40)
        task, _ = train(options.stores, shape, max(50, int(options.seconds / each)))
        errors = [
            reconstruction_errors(task.mae, DataLoader(dataset, 16), block=16)["model"]["mae"] for dataset in held
        ]
        found = linear_probe(
            task.mae.encoder, task.standardise, DataLoader(StoreDataset(probe, "train"), 16),
            DataLoader(StoreDataset(probe, "val"), 16), names,
        )  # fmt: skip
        size = sum(parameter.numel() for parameter in task.mae.parameters()) / 1e6
        print(
            f"{shape[0]:20} {size:9.2f}M {task.global_step or int(options.seconds / each):7d} {errors[0]:13.4f} "
            f"{errors[1]:14.4f} {found['mIoU']:12.3f} {found['mAcc']:15.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
