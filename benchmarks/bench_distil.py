"""How much of a teacher's features does a student learn, and what are they worth to a linear probe?

    python benchmarks/bench_distil.py STORES [--teacher prithvi_hls_tiny] [--steps 300] [--seeds 2]

STORES is what pretraining_imagery.py wrote; without published weights the teacher is the shipped model. R2 is over
the patches of held_out_sr.zarr, whose sources nothing was trained on, beside what the means of the bands in a patch
tell of the features. The probe is a linear classifier on frozen features of patches (shadow, water, land, cloud; left
half of a scene against right half); beside the student stand its random weights, masked reconstruction for as many
steps, the means and deviations of the bands alone, and the teacher itself.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from prithvi.chips import ChipStore
from prithvi.data import PretrainDataModule, StoreDataset
from prithvi.data.pretraining import joined
from prithvi.models import PrithviEncoder, Standardise
from prithvi.models.teacher import pooled
from prithvi.tasks import DistilTask, PretrainTask
from prithvi.tasks.probe import linear_probe

PATCH = 8
SHAPES = [("64 x 2", 64, 2, 4), ("96 x 4", 96, 4, 3)]


class Means(nn.Module):
    """Mean and deviation of each band in a patch, in the place of an encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.device_of = nn.Parameter(torch.zeros(1))

    def grid_of(self, images: Tensor) -> tuple[int, int, int]:
        return images.shape[2], images.shape[3] // PATCH, images.shape[4] // PATCH

    def forward(self, images: Tensor) -> Any:
        x, size = images.permute(0, 2, 3, 4, 1), self.grid_of(images)[1:]
        mean = pooled(x, size)
        spread = (pooled(x**2, size) - mean**2).clamp(min=0).sqrt()
        tokens = torch.cat([mean, spread], dim=-1).flatten(1, 3)
        return SimpleNamespace(tokens=torch.cat([tokens[:, :1], tokens], dim=1))  # a class token, as all have


def fit(task: L.LightningModule, data: PretrainDataModule, steps: int) -> float:
    """Trains a task; seconds a step."""
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, gradient_clip_val=20.0,
    )  # fmt: skip
    began = time.perf_counter()
    trainer.fit(task, datamodule=data)
    return (time.perf_counter() - began) / steps


@torch.no_grad()
def pairs(task: DistilTask, batches: Any) -> tuple[Tensor, Tensor, Tensor]:
    """(N, 6) band means, (N, width) targets and (N, width) predictions of patches."""
    task.eval()
    found: list[list[Tensor]] = [[], [], []]
    for batch in batches:
        cut = task.cropped(batch, torch.Generator())
        predicted, target, weight = task.compared(batch, cut, (batch["temporal_coords"], batch["location_coords"]))
        means = pooled(task.standardise(*cut[:2]).permute(0, 2, 3, 4, 1), (target.shape[2], target.shape[3]))
        whole = weight > 0.99
        for part, values in zip(found, (means, target, predicted["tokens"]), strict=True):
            part.append(values[whole])
    means, target, predicted = (torch.cat(part) for part in found)
    return torch.nn.functional.pad(means, (0, 1), value=1.0), target, predicted


def r2(predicted: Tensor, target: Tensor, reference: Tensor) -> float:
    """Share of the variance around the training mean that is predicted."""
    return 1 - float(((predicted - target) ** 2).sum() / ((target - reference.mean(dim=0)) ** 2).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", type=Path)
    parser.add_argument("--teacher", default="prithvi_hls_tiny")
    parser.add_argument("--architecture")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    stores, train, test = options.stores, str(options.stores / "sr.zarr"), options.stores / "held_out_sr.zarr"
    probe = ChipStore(stores / "probe.zarr")
    classes = [entry.name for entry in probe.spec.classes]

    def probed(encoder: Any, standardise: Standardise) -> float:
        loaders = [DataLoader(StoreDataset(probe, part), 16) for part in ("train", "val")]
        return linear_probe(encoder, standardise, *loaders, classes)["mIoU"]

    def line(name: str, figures: list[float], more: str = "") -> None:
        spread = f" +- {statistics.stdev(figures):.3f}" if len(figures) > 1 else ""
        print(f"{name:44} {statistics.fmean(figures):.3f}{spread}{more}", flush=True)

    def data_of() -> PretrainDataModule:
        return PretrainDataModule([train], batch_size=32, num_workers=0)

    print(f"teacher {options.teacher}, {options.steps} steps of 32 crops, {options.seeds} seeds; mIoU of the probe")
    for number, (name, width, depth, heads) in enumerate(SHAPES):
        random, taught, rebuilt, learnt, simple, seconds = ([] for _ in range(6))
        for seed in range(options.seeds):
            torch.manual_seed(seed)
            data = data_of()
            shape = {"patch_size": (1, PATCH, PATCH), "embed_dim": width, "depth": depth, "num_heads": heads}
            fields: dict[str, Any] = {"model_options": shape, "crop": 64, "flips": "all", "lr": 1e-3, "seed": seed}
            contract = data.contract.to_dict()
            task = DistilTask(
                options.teacher, architecture=options.architecture, contract=contract, accept=["level"], **fields
            )
            random.append(probed(task.mae.encoder, task.standardise))
            seconds.append(fit(task, data, options.steps))
            x, y, _ = pairs(task, (data.stream.batch(step) for step in range(24)))
            held = pairs(task, DataLoader(StoreDataset(test), 32, collate_fn=joined))
            learnt.append(r2(held[2], held[1], y))
            simple.append(r2(held[0] @ torch.linalg.lstsq(x, y).solution, held[1], y))
            taught.append(probed(task.mae.encoder, task.standardise))
            if number == seed == 0:
                teacher: PrithviEncoder = task.teacher.encoder
                line("teacher", [probed(teacher, task.teacher.standardise)])
                line("means and deviations of the bands", [probed(Means(), task.standardise)])
            torch.manual_seed(seed)
            plain = PretrainTask("prithvi_hls_tiny", contract, **fields)
            fit(plain, data_of(), options.steps)
            rebuilt.append(probed(plain.mae.encoder, plain.standardise))
        line(f"{name}: R2 of features, from band means", simple)
        line(f"{name}: R2 of features, distilled", learnt, f"   {1000 * statistics.fmean(seconds):.0f} ms a step")
        line(f"{name}: probe, random weights", random)
        line(f"{name}: probe, masked reconstruction", rebuilt)
        line(f"{name}: probe, distilled", taught)


if __name__ == "__main__":
    main()
