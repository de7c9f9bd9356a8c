"""A burn scar from the image after the fire alone: thresholds, trees, U-Net, model; trained above, tested below.

    python benchmarks/bench_burn_scars.py --data FOLDER [--seeds 5 --steps 150 --head detail]

FOLDER holds cold_springs_fire: Landsat 8 surface reflectance of 2016-07-07 and 2016-07-23 (Colorado). There is no
perimeter: the label is weak, dNBR above 0.27 where both dates are clear, so that it is made of the NBR that the
threshold reads too. Trained on rows 0 to 85, tested on rows 94 and below; nothing is chosen by a figure. One fire says
little about others, and this is no HLS Burn Scars score.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import torch

from prithvi.contract import IGNORE, Contract
from prithvi.evaluation import IndexThreshold, PixelTrees, normalised_difference
from prithvi.metrics import SegmentationMetrics

sys.path.insert(0, str(Path(__file__).parent))
from bench_pretrained import KINDS, Crops, run

BANDS = ("blue", "green", "red", "nir_narrow", "swir_1", "swir_2")
TRAIN, TEST = slice(0, 86), slice(94, None)
WINDOW, CLASSES = 64, ["not burnt", "burn scar"]


def scene(root: Path, day: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """(band, y, x) reflectance x 10,000 of a date and where it is clear."""

    def read(name: str) -> Any:
        with rasterio.open(root / f"LC80340322016{day}LGN00_{name}_crop.tif") as raster:
            return raster.read(1)

    image = np.stack([read(f"sr_band{band}") for band in range(2, 8)]).astype(np.float32)
    return image, (read("cfmask") == 0) & (image > 0).all(axis=0)


class Rows(Crops):
    """Random squares of some rows, or these whole."""

    def __init__(self, image: Any, valid: Any, label: Any, rows: slice, crop: int | None, samples: int) -> None:
        self.image = torch.from_numpy(image[:, None, rows])
        self.valid, self.label = torch.from_numpy(valid[None, rows]), torch.from_numpy(label[rows])
        self.crop, self.samples = crop, samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--head", default="detail", help="detail, or light as in earlier results")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    root = options.data / "cold_springs_fire"
    (before, clear_before), (after, clear_after) = scene(root, "189"), scene(root, "205")
    nbr_before, nbr_after = (normalised_difference(image[3], image[5]) for image in (before, after))
    clear = clear_before & clear_after
    label = np.where(clear, nbr_before - nbr_after > 0.27, IGNORE).astype(np.int64)

    def figures(found: Any) -> str:
        metrics = SegmentationMetrics(CLASSES)
        metrics.update(torch.from_numpy(found[TEST].astype(np.int64)), torch.from_numpy(label[TEST]))
        values = metrics.compute()
        return f"IoU {float(values['IoU_burn scar']):.3f}   F1 {float(values['F1_burn scar']):.3f}"

    print(f"burnt pixels: {int((label[TRAIN] == 1).sum())} to train on, {int((label[TEST] == 1).sum())} to test on")
    threshold = IndexThreshold.fit(nbr_after[TRAIN], label[TRAIN] == 1, label[TRAIN] >= 0, above=False)
    print(f"  {f'NBR below {threshold.threshold:.3f}':28} {figures(threshold.predict(nbr_after))}")
    trees = PixelTrees().fit(after[:, TRAIN], label[TRAIN], label[TRAIN] >= 0)
    print(f"  {'gradient boosting on pixels':28} {figures(trees.predict(after))}")
    fitted_on = after[:, TRAIN][:, clear_after[TRAIN]]
    contract = Contract(
        BANDS, tuple(fitted_on.mean(axis=1).tolist()), tuple(fitted_on.std(axis=1).tolist()), level="SR"
    )
    for kind in KINDS:
        found = []
        for seed in range(options.seeds):
            train = Rows(after, clear_after, label, TRAIN, WINDOW, options.steps * 8)
            test = Rows(after, clear_after, label, TEST, None, 1)
            found.append(run(kind, contract, CLASSES, WINDOW, 1, train, test, test, options.steps, seed,
                             "IoU_burn scar", options.head))  # fmt: skip
        values = [of["IoU_burn scar"] for of in found]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        told = " ".join(f"{value:.3f}" for value in values)
        print(f"  {kind:28} IoU {statistics.mean(values):.3f} +- {spread:.3f}   {told}", flush=True)


if __name__ == "__main__":
    main()
