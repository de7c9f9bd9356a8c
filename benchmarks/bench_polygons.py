"""CPU seconds and peak memory of the polygons of a speckled map, in this checkout and in an older one, in turns.

    git worktree add ../old COMMIT
    python benchmarks/bench_polygons.py ../old . [--pairs 3] [--height 1830 --width 3660] [--options]

The maps are made here: smooth regions of some classes with single pixels of random classes (speckle) strewn over them,
a corner without data, and random confidences beside them. Each run is a process of its own on one thread; counted are
the user and system seconds of `vectorise` alone (as `prithvi map` calls it, polygons as GeoParquet with confidences),
and how far the peak of resident memory rises above that of the imported package. The results of both checkouts are
compared polygon by polygon: outlines as normalised WKB, areas and confidences by their largest relative difference.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from rasterio.transform import from_origin
from scipy import ndimage

CASES = {
    "2 classes, 10 % speckle": (2, 0.1),
    "3 classes, 25 % speckle": (3, 0.25),
    "5 classes, 25 % speckle": (5, 0.25),
    "3 classes, none": (3, 0.0),
}
CHILD = """
import json, sys, time
from pathlib import Path
from prithvi.mapping import vectorise
def peak():  # of this program alone; that of getrusage begins with its parent's
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
path, confidence, out, options = sys.argv[1:]
before = peak()
start = time.process_time()
number = vectorise(path, out, confidence=confidence, **json.loads(options))
seconds = time.process_time() - start
print(json.dumps([number, seconds, peak() - before]))
"""


def write_maps(folder: Path, height: int, width: int, classes: int, speckle: float) -> tuple[Path, Path]:
    """A class map and its confidences."""
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.standard_normal((height, width)).astype(np.float32), 20)
    values = np.digitize(smooth, np.quantile(smooth, np.arange(1, classes) / classes)).astype(np.uint8)
    strewn = rng.random((height, width)) < speckle
    values[strewn] = rng.integers(0, classes, int(strewn.sum()))
    values[:40, :60] = 255
    certain = np.where(values == 255, 255, rng.integers(50, 201, (height, width))).astype(np.uint8)
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": "uint8", "nodata": 255,
               "crs": "EPSG:32630", "transform": from_origin(600_000, 4_200_000, 10, 10), "tiled": True,
               "compress": "deflate"}  # fmt: skip
    paths = folder / "map.tif", folder / "confidence.tif"
    for path, pixels in zip(paths, (values, certain), strict=True):
        with rasterio.open(path, "w", **profile) as raster:
            raster.write(pixels, 1)
            if path.stem == "map":
                raster.update_tags(**{f"CLASS_{number}": f"class {number}" for number in range(classes)})
            else:
                raster.scales = (0.005,)
    return paths


def measured(checkout: Path, maps: tuple[Path, Path], out: Path, options: dict[str, Any]) -> tuple[int, float, float]:
    """Polygons, CPU seconds and MB of one run."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, *map(str, maps), str(out), json.dumps(options)]
    done = subprocess.run(command, env=environment, cwd=out.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{checkout}: {done.stderr}")
    number, seconds, memory = json.loads(done.stdout)
    return number, seconds, memory


def difference(one: Path, other: Path) -> str:
    """How the polygons of two files differ."""
    tables = []
    for path in (one, other):
        frame = gpd.read_parquet(path)
        outline = shapely.to_wkb(shapely.normalize(frame.geometry.to_numpy()), hex=True)
        tables.append(frame.drop(columns="geometry").assign(outline=outline).set_index("outline").sort_index())
    mine, theirs = tables
    if not (mine.index.equals(theirs.index) and mine[["class", "name"]].equals(theirs[["class", "name"]])):
        return "polygons differ"
    far = {name: float((mine[name] / theirs[name] - 1).abs().max()) for name in ("area_m2", "confidence")}
    return "same polygons; " + ", ".join(f"{name} within {value:.0e}" for name, value in far.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--height", type=int, default=1830)
    parser.add_argument("--width", type=int, default=3660)
    parser.add_argument("--options", type=json.loads, default={}, help='of vectorise, as JSON: {"simplify": 15}')
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    arguments = parser.parse_args()
    print(
        "| map | polygons | CPU, s: old | new | old / new | MB: old | new | result |\n|---|---|---|---|---|---|---|---|"
    )
    for name in arguments.cases:
        with tempfile.TemporaryDirectory() as folder:
            maps = write_maps(Path(folder), arguments.height, arguments.width, *CASES[name])
            outs = {place: Path(folder) / f"{number}.parquet" for number, place in enumerate(("old", "new"))}
            runs: dict[str, list[tuple[int, float, float]]] = {"old": [], "new": []}
            for pair in range(arguments.pairs):
                for place in ("old", "new")[:: 1 if pair % 2 else -1]:
                    runs[place].append(measured(getattr(arguments, place), maps, outs[place], arguments.options))
            (old, old_mb), (new, new_mb) = (
                [statistics.median(run[index] for run in runs[place]) for index in (1, 2)] for place in ("old", "new")
            )
            ratio = statistics.median(
                mine[1] / theirs[1] for mine, theirs in zip(runs["old"], runs["new"], strict=True)
            )
            print(
                f"| {name} | {runs['new'][0][0]:,} | {old:.1f} | {new:.1f} | {ratio:.1f} | {old_mb:.0f} | {new_mb:.0f} "
                f"| {difference(outs['old'], outs['new'])} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
