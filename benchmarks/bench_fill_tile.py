"""A whole HLS tile, 3660 x 3660 pixels and 20 dates of which 40 % is missing: wall and CPU time, and peak memory.

    python benchmarks/bench_fill_tile.py [--side 3660 --dates 20] [--heights 915 1830] [--no-whole] [--method NAME]

Each date is the shipped sample repeated, darkened or brightened by date and by a smooth field, with noise; clouds are
where another smooth field is largest. `prithvi fill` runs in a process of its own. Memory is measured at some heights
of the full width, and at half of the dates; the whole tile is run last. Peak memory is that process's resident
memory, which counts pages of files that the system may drop.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from flood_scene import read_sample
from rasterio.transform import from_origin
from scipy.ndimage import zoom

from prithvi.bands import PRITHVI_BANDS

MISSING = 0.4
COARSE = 64


def smooth_field(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(y, x) around 0, of deviation 1 before it is made finer."""
    coarse = random.standard_normal((height // COARSE + 3, width // COARSE + 3)).astype(np.float32)
    return zoom(coarse, COARSE, order=1)[:height, :width]


def write_dates(folder: Path, height: int, width: int, dates: int) -> list[Path]:
    """A GeoTIFF of six bands a date, nodata where there are clouds."""
    tile, files = read_sample(), []
    bands, rows, columns = tile.shape
    whole = np.tile(tile, (1, -(-height // rows), -(-width // columns)))[:, :height, :width].astype(np.float32)
    profile = {
        "driver": "GTiff", "height": height, "width": width, "count": bands, "dtype": "int16", "nodata": -9999,
        "crs": "EPSG:32631", "transform": from_origin(5e5, 5e6, 30, 30), "tiled": True, "blockxsize": 256,
        "blockysize": 256, "compress": "zstd",
    }  # fmt: skip
    for number in range(dates):
        random = np.random.default_rng(number)
        day = dt.date(2022, 4, 1) + dt.timedelta(days=10 * number)
        season = 1 + 0.2 * np.sin(number / 3) + 0.1 * smooth_field(random, height, width)
        pixels = np.maximum(whole * season + 30 * random.standard_normal((1, height, width), np.float32), 1)
        clouds = smooth_field(random, height, width)
        pixels[:, clouds > np.quantile(clouds[::8, ::8], 1 - MISSING)] = -9999
        files.append(folder / f"{day}.tif")
        with rasterio.open(files[-1], "w", **profile) as raster:
            raster.write(pixels.astype(np.int16))
            raster.descriptions, raster.scales = PRITHVI_BANDS, (1e-4,) * bands
    return files


def run(files: list[Path], out: Path, method: str) -> tuple[float, float, float]:
    """Wall and CPU seconds, and peak memory in MB, of filling some files."""
    dates = [word for file in files for word in ("--date", file.stem)]
    command = [sys.executable, "-m", "prithvi", "fill", "--method", method, *map(str, files), *dates, "-o", str(out)]
    began, environment = time.perf_counter(), {**os.environ, "GDAL_CACHEMAX": "64"}
    child = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"prithvi fill ended with {status}")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=3660)
    parser.add_argument("--dates", type=int, default=20)
    parser.add_argument("--heights", type=int, nargs="*", default=[458, 915])
    parser.add_argument("--no-whole", action="store_true")
    parser.add_argument("--method", default="local_regression")
    options = parser.parse_args()
    print(f"{'height':>7} {'dates':>6} {'wall s':>8} {'CPU s':>8} {'CPU s a date and megapixel':>27} {'peak MB':>8}")
    sizes = [(height, options.dates) for height in options.heights]
    sizes += [(options.heights[0], options.dates // 2)] if options.heights else []
    for height, dates in [*sizes, *([] if options.no_whole else [(options.side, options.dates)])]:
        with tempfile.TemporaryDirectory() as folder:
            files = write_dates(Path(folder), height, options.side, dates)
            wall, used, peak = run(files, Path(folder) / "filled", options.method)
        megapixels = height * options.side * dates / 1e6
        print(f"{height:7} {dates:6} {wall:8.0f} {used:8.0f} {used / megapixels:27.1f} {peak:8.0f}", flush=True)


if __name__ == "__main__":
    main()
