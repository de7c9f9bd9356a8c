"""What do embeddings lose, and save, as whole numbers of 8 bits? Size, a probe, seams; on real images.

    python benchmarks/bench_embedding_files.py [--data DIR]

The probe: hls_water's 56 chips whose labels agree with Fmask (bands as reflectance x 10,000; a patch is water where
most of its pixels are), five folds by place, a logistic regression on standardised features, balanced accuracy. Its
vectors are those that the files hold: written by `prithvi.mapping.embed_scene` and read back by xarray. The size: files
of the shipped flood image, and of float32 the bytes of the values alone. Seams: that image by stride.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rioxarray  # noqa: F401 - the .rio accessor
import torch
import xarray as xr
from affine import Affine
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import prithvi
from prithvi.catalog import data_catalog
from prithvi.mapping import embed_scene
from prithvi.scenes import open_scene

MODEL, PATCH, FOLDS = "prithvi_hls_tiny", 8, 5
KINDS = ("float16", "int8")


def chips(root: Path) -> list[tuple[xr.DataArray, npt.NDArray[np.int64], str]]:
    """Scene, (y * x) whether a patch is water, and place."""
    bands, found = list(prithvi.load(MODEL, num_frames=1).config.bands), []
    with (root / "index.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if float(row["iou_label_fmask"] or 0) > 0.7]
    for row in rows:
        with rasterio.open(root / "images" / f"{row['id']}.tif") as raster:
            pixels = raster.read(list(range(1, 7))).astype(np.float32)
        with rasterio.open(root / "labels" / f"{row['id']}.png") as raster:
            water = raster.read(1) > 0
        pixels[pixels <= -9999] = np.nan
        scene = xr.DataArray(pixels[None], dims=("time", "band", "y", "x"), coords={"band": bands})
        scene = scene.assign_attrs(gain=1e-4, bias=0.0).rio.write_crs("EPSG:32630")  # the set states no place
        scene = scene.rio.write_transform(Affine(30, 0, 600_000, 0, -30, 4_200_000))
        side = water.shape[0] // PATCH
        share = water.reshape(side, PATCH, side, PATCH).mean((1, 3)).ravel()
        found.append((scene, (share > 0.5).astype(np.int64), row["place"]))
    return found


def read_back(scene: xr.DataArray, folder: Path, dtype: str, layer: int) -> npt.NDArray[np.float32]:
    """(patch, feature) of the file."""
    path = embed_scene(MODEL, scene, folder / f"{dtype}.zarr", dtype=dtype, layer=layer)
    values = xr.open_zarr(path)["embedding"].values[0].astype(np.float32)
    return np.nan_to_num(values.reshape(values.shape[0], -1).T)


def accuracy(x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], fold: npt.NDArray[np.int64]) -> float:
    """Mean balanced accuracy of the folds."""
    scores = []
    for part in range(FOLDS):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500, class_weight="balanced"))
        probe.fit(x[fold != part], y[fold != part])
        scores.append(balanced_accuracy_score(y[fold == part], probe.predict(x[fold == part])))
    return float(np.mean(scores))


def probe(root: Path, folder: Path) -> None:
    """A table of layers."""
    some = chips(root)
    y, places = np.concatenate([label for _, label, _ in some]), sorted({place for *_, place in some})
    fold = np.concatenate([np.full(len(label), places.index(place) % FOLDS) for _, label, place in some])
    print(f"{len(some)} chips of {len(places)} places, {len(y):,} patches, {y.mean():.1%} water")
    print("| vectors | float16 | int8 | loss |\n|---|---|---|---|")
    for layer in (-1, 1):
        score = {
            kind: accuracy(np.concatenate([read_back(scene, folder, kind, layer) for scene, *_ in some]), y, fold)
            for kind in KINDS
        }
        loss = score["float16"] - score["int8"]
        print(f"| layer {layer} | {score['float16']:.4f} | {score['int8']:.4f} | {loss:+.4f} |")
    means = np.concatenate(
        [scene.values[0].reshape(6, 16, PATCH, 16, PATCH).mean((2, 4)).reshape(6, -1).T for scene, *_ in some]
    )
    print(f"| means of the six bands | {accuracy(np.nan_to_num(means), y, fold):.4f} | | |")


def sizes(folder: Path) -> None:
    """Bytes of files, and what the checks say."""
    image = next((data_catalog() / "sen1floods11" / "samples" / "S2Hand").glob("*.tif"))
    scene = open_scene(image, sensor="sentinel-2-l1c", offset=0).load()
    print(
        "| file | as float32 | float16 | int8 | times smaller than float32 | than float16 |\n|---|---|---|---|---|---|"
    )
    for pixels in (False, True):
        plain = prithvi.embed(scene, MODEL, pixels=pixels)["embedding"].nbytes * 2
        for suffix in ("tif", "zarr"):
            found: dict[str, int] = {}
            for kind in KINDS:
                path = embed_scene(MODEL, scene, folder / f"{kind}.{suffix}", dtype=kind, pixels=pixels)
                files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
                found[kind] = sum(file.stat().st_size for file in files)
            ratios = f"{plain / found['int8']:.1f} | {found['float16'] / found['int8']:.1f}"
            name = f"a vector a {'pixel' if pixels else 'patch'}, .{suffix}"
            print(f"| {name} | {plain:,} | {found['float16']:,} | {found['int8']:,} | {ratios} |")
    for words in ({}, {"stride": 64}, {"stride": 16}, {"layer": 1}, {"pixels": True}):
        options: dict[str, Any] = dict(words)
        path = embed_scene(MODEL, scene, folder / "checked.tif", **options)
        with rasterio.open(path) as raster:
            print(f"- {words or 'default'}: {raster.tags()['PRITHVI_CHECKED']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with hls_water in it")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        sizes(Path(folder))
        if options.data is not None:
            probe(options.data / "hls_water", Path(folder))


if __name__ == "__main__":
    main()
