"""Which patch, width and depth our own shapes should have: validation IoU of the demo's task against CPU seconds.

The choice looks at the validation columns only; the demo's test columns are not read.

    python benchmarks/bench_own_shapes.py [--steps 300] [--seeds 2] [--only "384 x 12"]
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings

import lightning as L
from torch.utils.data import DataLoader

from prithvi.cli.demo import _Chip
from prithvi.tasks import SegmentationTask

# name, patch, width, depth, heads, head, window
SHAPES = [
    ("patch 16, fcn", 16, 192, 6, 6, "fcn", 128),
    ("patch 8, fcn", 8, 192, 6, 6, "fcn", 96),
    ("patch 8, light", 8, 192, 6, 6, "light", 96),
    ("patch 4, 192 x 6", 4, 192, 6, 6, "light", 64),
    ("patch 4, 192 x 4", 4, 192, 4, 6, "light", 64),
    ("patch 4, 128 x 4", 4, 128, 4, 4, "light", 64),
    ("patch 8, 384 x 12", 8, 384, 12, 6, "light", 96),
    ("patch 4, 256 x 8", 4, 256, 8, 8, "light", 64),
]


def measure(chip: _Chip, shape: tuple[str, int, int, int, int, str, int], steps: int, seed: int) -> tuple[float, float]:
    """Water IoU on the validation columns after the last step, and milliseconds a step of 8 windows."""
    _, patch, width, depth, heads, head, window = shape
    L.seed_everything(seed, verbose=False)
    task = SegmentationTask(
        [c.name for c in chip.layout.classes], contract=chip.layout.contract.to_dict(), head=head,
        head_options={"width": 64, "channels": 64} if head == "fcn" else None, window=window, lr=1e-3,
        model_options={"patch_size": (1, patch, patch), "embed_dim": width, "depth": depth, "num_heads": heads},
    )  # fmt: skip
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, gradient_clip_val=1.0,
    )  # fmt: skip
    start = time.perf_counter()
    trainer.fit(task, DataLoader(chip.part("train", window, steps * 8), 8))
    taken = time.perf_counter() - start
    (result,) = trainer.test(task, DataLoader(chip.part("val"), 1), verbose=False)
    return result["test/IoU_water"], 1000 * taken / steps


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="", help="part of a shape's name")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    chip = _Chip()
    print(f"{'shape':18} {'water IoU, validation':24} ms a step")
    for shape in (shape for shape in SHAPES if options.only in shape[0]):
        runs = [measure(chip, shape, options.steps, seed) for seed in range(options.seeds)]
        print(
            f"{shape[0]:18} {' '.join(f'{iou:.3f}' for iou, _ in runs):24} {min(ms for _, ms in runs):6.0f}", flush=True
        )


if __name__ == "__main__":
    main()
