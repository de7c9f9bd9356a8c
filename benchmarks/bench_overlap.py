"""How much windows of a map have to overlap: IoU, classes that change and seams, by overlap, model and scene.

    python benchmarks/bench_overlap.py --demo demo/model [--data FOLDER --fold-weights 'DIR/fold{fold}/.../model']
        [--overlaps 0 0.125 0.25 0.375 0.5 0.75] [--out FILE.json]

Scenes: the shipped sample (IoU of water on the columns that no model was trained on, see `prithvi demo`); with --data
the sample of the USA (no truth: changes and seams alone), and hls_water's good chips, each fold mapped by the labels of
the model that was pretrained without it. Models: that of `prithvi demo` (windows of 64), and on windows of 224 the
published tiny shape, from the weights that it begins with, its head and encoder trained on the sample's left columns:
with the head `light`, and with the paper's at a third of its width (`heavy`).

A seam is a line where a window begins or ends. Told is how much probabilities jump across these lines, over how much
they jump across the same lines where windows overlap by half (where other windows begin and end there).
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import torch
import xarray as xr
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent))
from fine_tuning_shares import WATER, as_pretrained
from flood_scene import read_sample
from labelled_imagery import FOLDS, READERS, of_fold
from mapping_runs import HEADS

import prithvi
from prithvi import windows
from prithvi.bands import PRITHVI_BANDS
from prithvi.catalog import data_catalog
from prithvi.files import dumps, write_text
from prithvi.tasks import SegmentationTask

TRAIN, TEST = slice(0, 224), slice(352, 512)
"""Columns of the shipped sample, as in `prithvi demo`."""
HALF = 0.5
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """A model and scenes that belong together, as a row of the table."""

    name: str
    model: Any
    scenes: Sequence[xr.DataArray]
    truths: Sequence[npt.NDArray[Any]] | None = None
    """(y, x) 1 for water, 0 for land, -1 for neither; None without."""
    water: int = 1
    """The class that is water."""
    fold: int = -1


def scene_of(reflectance: npt.NDArray[Any]) -> xr.DataArray:
    """(time, band, y, x) reflectance as a scene."""
    _, _, height, width = reflectance.shape
    coords = {"band": list(PRITHVI_BANDS), "y": np.arange(height)[::-1] * 30.0, "x": np.arange(width) * 30.0}
    array = xr.DataArray(reflectance, dims=("time", "band", "y", "x"), coords=coords).rio.write_crs("EPSG:32630")
    return prithvi.open_scene(array, scale=1, offset=0)


def sample() -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """(6, 512, 512) reflectance and the label, -1 where there is none."""
    with rasterio.open(data_catalog() / "sen1floods11/samples/LabelHand/Spain_7370579_LabelHand.tif") as raster:
        label = raster.read(1).astype(np.int64)
    return read_sample().astype(np.float32) / 1e4, label


def published(head: str, steps: int = 100) -> Any:
    """The published tiny shape trained on the sample's left columns, from the weights that it begins with."""
    torch.manual_seed(0)
    contract = prithvi.catalog.dataset("sen1floods11").contract.to_dict()
    task = SegmentationTask(["land", "water"], contract=contract, model="prithvi_eo_v2_tiny_tl", init=None,
                            window=224, **HEADS[head])  # fmt: skip
    pixels, label = sample()
    images = torch.from_numpy(pixels[None, :, None, :, TRAIN] * 1e4)
    truth = torch.from_numpy(label[None, :, TRAIN])
    module = task.fitted().mappable().module.train()
    optimizer = torch.optim.AdamW(module.parameters(), 3e-4)
    for _ in range(steps):
        rows = [int(torch.randint(0, 512 - 224 + 1, ())) for _ in range(2)]
        batch = torch.cat([images[:, :, :, row : row + 224] for row in rows])
        wanted = torch.cat([truth[:, row : row + 224] for row in rows])
        optimizer.zero_grad()
        F.cross_entropy(module(batch), wanted, ignore_index=-1).backward()
        optimizer.step()
    return task.eval().fitted().mappable()


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """What is measured, one after another."""
    pixels, label = sample()
    unseen = np.full_like(label, -1)
    unseen[:, TEST] = label[:, TEST]
    spain = [scene_of(pixels[None])], [unseen]
    models = {"demo's model": prithvi.load(options.demo).mappable()}
    models |= {f"published tiny, {head}": published(head) for head in HEADS}
    for name, model in models.items():
        yield Case(f"{name}, Spain", model, *spain)
    if options.data is None:
        return
    with rasterio.open(options.data / "sen1floods11" / "USA_430764_S2Hand.tif") as raster:
        usa = raster.read([2, 3, 4, 9, 12, 13]).astype(np.float32) / 1e4
    for name, model in models.items():
        yield Case(f"{name}, USA", model, [scene_of(usa[None])])
    if options.fold_weights is None:
        return
    imagery = READERS["water"](options.data)
    for head in ("fused", "branch"):
        for fold in range(FOLDS):
            chips = [chip for chip in imagery.chips if chip.fold == fold and chip.good]
            model = as_pretrained(of_fold(options.fold_weights, fold) or "", head).fitted().mappable()
            scenes = [scene_of(chip.reflectance(imagery.scale)) for chip in chips]
            truths = [np.where(chip.valid[0], chip.label, -1) for chip in chips]
            yield Case(f"our labels, {head}, hls_water", model, scenes, truths, WATER, fold)


def measured(case: Case, overlaps: Sequence[float]) -> list[dict[str, Any]]:
    """A row of figures for each overlap."""
    reference = [_mapped(case.model, scene, HALF)[0] for scene in case.scenes]
    rows = []
    for overlap in overlaps:
        begun, number, changed, pixels = time.process_time(), 0, 0, 0
        hit, either, jumps, usual = 0, 0, [], []
        for place, scene in enumerate(case.scenes):
            found, plan = _mapped(case.model, scene, overlap)
            number += len(plan)
            known = np.isfinite(reference[place]).all(axis=0)
            one, other = (chances.argmax(axis=0) for chances in (found, reference[place]))
            changed, pixels = changed + int((one != other)[known].sum()), pixels + int(known.sum())
            for axis, starts in ((0, plan.rows), (1, plan.columns)):
                jumps += _jumps(found, starts, plan.window, axis)
                usual += _jumps(reference[place], starts, plan.window, axis)
            if case.truths is not None:
                truth, called = case.truths[place], one == case.water
                hit += int((called & (truth == 1) & known).sum())
                either += int(((called | (truth == 1)) & (truth >= 0) & known).sum())
        rows.append({
            "case": case.name, "fold": case.fold, "overlap": overlap, "windows": number, "hit": hit, "either": either,
            "changed": changed, "pixels": pixels, "jump": float(np.nanmean(jumps)) if jumps else np.nan,
            "usual": float(np.nanmean(usual)) if usual else np.nan, "seconds": time.process_time() - begun,
        })  # fmt: skip
    return rows


def _mapped(model: Any, scene: xr.DataArray, overlap: float) -> tuple[npt.NDArray[Any], windows.WindowPlan]:
    """(class, y, x) probabilities, NaN without data, and the windows."""
    stride = max(1, round(model.window * (1 - overlap)))
    plan = windows.plan(scene.sizes["y"], scene.sizes["x"], model.window, stride)
    return prithvi.map(scene, model, stride=stride, probabilities=True)["probability"].values, plan


def _jumps(chances: npt.NDArray[Any], starts: Sequence[int], window: int, axis: int) -> list[float]:
    """Mean difference of probabilities across each line where a window begins or ends within the scene."""
    size = chances.shape[axis + 1]
    lines = sorted({line for start in starts for line in (start, start + window) if 0 < line < size})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # lines without data
        return [
            float(np.nanmean(np.abs(chances.take(line, axis + 1) - chances.take(line - 1, axis + 1)))) for line in lines
        ]


def shown(rows: Sequence[dict[str, Any]]) -> str:
    """A table, folds pooled."""
    lines = [
        "| | overlap | windows | IoU | least gain of a fold | changed | jump at seams | CPU s |",
        "|" + "---|" * 8,
    ]
    for name in dict.fromkeys(row["case"] for row in rows):
        for overlap in dict.fromkeys(row["overlap"] for row in rows):
            mine = [row for row in rows if row["case"] == name and row["overlap"] == overlap]
            half = {row["fold"]: row for row in rows if row["case"] == name and row["overlap"] == HALF}
            total = {key: sum(row[key] for row in mine) for key in ("windows", "hit", "either", "changed", "pixels")}
            iou = f"{total['hit'] / total['either']:.4f}" if total["either"] else ""
            less = [
                row["hit"] / row["either"] - half[row["fold"]]["hit"] / half[row["fold"]]["either"]
                for row in mine if row["either"] and row["fold"] in half
            ]  # fmt: skip
            jump = np.mean([row["jump"] for row in mine]) / np.mean([row["usual"] for row in mine])
            lines.append(
                f"| {name} | {overlap} | {total['windows']} | {iou} | {f'{min(less):+.4f}' if less else ''} "
                f"| {total['changed'] / total['pixels']:.3%} | {jump:.2f} | {sum(row['seconds'] for row in mine):.1f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", required=True, help="model folder of 'prithvi demo'")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--fold-weights", help="with {fold}")
    parser.add_argument("--overlaps", nargs="+", type=float, default=(0, 0.125, 0.25, 0.375, HALF, 0.75))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for case in cases(options):
        rows += measured(case, options.overlaps)
        print(case.name, case.fold, flush=True)
        if options.out is not None:
            write_text(options.out, dumps(rows, indent=1) + "\n")
    print(shown(rows))


if __name__ == "__main__":
    main()
