"""Which sign of an error is worth something: confidence or disagreement, and what the temperature does to the first.

    python benchmarks/bench_confidence.py demo/model [../shared/data/hls_water]

On the test columns of the shipped flood chip, which no part of `prithvi demo` has seen, and on chips of other places
whose rough labels agree with Fmask's water bit (more than .7). Expected calibration error with temperature 1 and with
the model's own; error rate by fifths of each sign; AUROC of finding errors; AURC, the error left on average where the
most doubtful pixels are set aside (less is better). Then what the disagreement costs: CPU seconds of a map with and
without, in turn.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
import torch
import xarray as xr
from flood_scene import write_scene
from rasterio.transform import from_origin

import prithvi
from prithvi.bands import PRITHVI_BANDS
from prithvi.cli.demo import PARTS, _Chip
from prithvi.metrics import CalibrationMetric
from prithvi.modelio.predictor import Predictor

Sample = dict[str, np.ndarray]
"""(pixels,) `wrong`, `confidence` and `disagreement`, and `certain`, the confidence with temperature 1."""


def sample_of(model: Predictor, scene: xr.DataArray, label: np.ndarray, columns: slice) -> Sample:
    """The pixels of some columns that have a label and are seen by several windows."""
    found = prithvi.map(scene, model, disagreement=True).compute()
    plain = prithvi.map(scene, replace(model, temperature=1.0)).compute()
    classes, apart = found["class"].values[:, columns], found["disagreement"].values[:, columns]
    truth = label[:, columns]
    known = (truth >= 0) & (classes != 255) & np.isfinite(apart)
    return {
        "wrong": (classes != truth)[known], "disagreement": apart[known],
        "confidence": found["confidence"].values[:, columns][known],
        "certain": plain["confidence"].values[:, columns][known],
    }  # fmt: skip


def water_scene(path: Path, copy: Path) -> xr.DataArray:
    """A chip of hls_water, whose files state no place, in an invented one."""
    with rasterio.open(path) as raster:
        pixels = raster.read(range(1, 7))
    place = {"crs": "EPSG:32630", "transform": from_origin(6e5, 4.2e6, 30, 30)}
    with rasterio.open(copy, "w", "GTiff", pixels.shape[2], pixels.shape[1], 6, dtype="int16", **place) as raster:
        raster.write(pixels)
        raster.descriptions = PRITHVI_BANDS
    return prithvi.open_scene(copy, scale=10_000)


def calibration_error(confidence: np.ndarray, wrong: np.ndarray) -> float:
    """ECE as `prithvi test` has it, over 15 bins."""
    metric = CalibrationMetric()
    two = torch.from_numpy(np.stack([confidence, 1 - confidence])).clamp(min=1e-9).log()[None, ..., None]
    metric.update(two, torch.from_numpy(wrong.astype(np.int64))[None, :, None])
    return float(metric.compute().error)


def show(title: str, sample: Sample) -> None:
    from sklearn.metrics import roc_auc_score

    wrong = sample["wrong"]
    print(f"{title}: {len(wrong):,} pixels, {wrong.mean():.2%} wrong")
    before, after = (calibration_error(sample[name], wrong) for name in ("certain", "confidence"))
    print(f"  ECE {before:.4f} with temperature 1, {after:.4f} with the model's")
    for name, doubt in (("confidence", 1 - sample["confidence"]), ("disagreement", sample["disagreement"])):
        order = np.argsort(doubt, kind="stable")
        fifths = "  ".join(f"{part.mean():6.2%}" for part in np.array_split(wrong[order], 5))
        left = (wrong[order].cumsum() / np.arange(1, len(wrong) + 1)).mean()
        print(f"  {name:12} wrong by fifths {fifths}   AUROC {roc_auc_score(wrong, doubt):.3f}   AURC {left:.4f}")


def cost(model: Predictor, folder: Path, runs: int = 3) -> None:
    """CPU seconds of maps with and without, in turn."""
    from prithvi.mapping import Products, map_scene

    write_scene(folder / "scene.tif", 512, 512)
    scene, seconds = prithvi.open_scene(folder / "scene.tif"), {False: [], True: []}
    for run in range(-1, runs):
        for asked in (False, True):
            begun = time.process_time()
            map_scene(model, scene, folder / "map.tif", products=Products(confidence=True, disagreement=asked))
            if run >= 0:  # the first one warms up
                seconds[asked].append(time.process_time() - begun)
    without, with_it = (np.array(seconds[asked]) for asked in (False, True))
    ratio = with_it / without
    print(
        f"512 x 512 pixels: {np.median(without):.1f} s of CPU without, {np.median(with_it):.1f} s with; "
        f"ratio {np.median(ratio):.3f} ({ratio.min():.3f} to {ratio.max():.3f}, {runs} pairs)"
    )


def main(model_folder: str, water: str | None = None) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # hls_water's files state no place, and are coarser than the demo's chip
    model = prithvi.load(model_folder)
    assert isinstance(model, Predictor)
    print(f"{model_folder}: temperature {model.temperature:g}, weights {model.sha256[:12]}")
    chip = _Chip()
    show("Spain, test columns", sample_of(model, chip.scene, chip.label, slice(*PARTS["test"])))
    if water is not None:
        from PIL import Image

        samples = []
        with open(f"{water}/index.csv", encoding="utf-8") as file:
            names = [row["id"] for row in csv.DictReader(file) if float(row["iou_label_fmask"] or 0) > 0.7]
        for name in names:
            label = np.asarray(Image.open(f"{water}/labels/{name}.png")).astype(int)
            with tempfile.TemporaryDirectory() as folder:
                scene = water_scene(Path(water) / "images" / f"{name}.tif", Path(folder) / "chip.tif")
                samples.append(sample_of(model, scene, label, slice(None)))
        show(f"hls_water, {len(names)} chips", {key: np.concatenate([s[key] for s in samples]) for key in samples[0]})
    with tempfile.TemporaryDirectory() as folder:
        cost(model, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
