"""Whole processes: help texts, imports, and the first map of a small piece."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import rasterio
from rasterio.windows import Window

from benchmarks.suite.jobs import Work, need
from prithvi.catalog import data_catalog

SAMPLE = data_catalog() / "sen1floods11/samples/S2Hand/Spain_7370579_S2Hand.tif"


def whole(command: list[str], folder: Path) -> Work:
    """Runs a command, and says what its process took: wall and CPU seconds."""

    def work() -> dict[str, float]:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")
        return {"seconds": time.perf_counter() - start, "cpu": used.ru_utime + used.ru_stime}

    return work


def make(size: int, folder: Path) -> None:
    """A piece of the shipped sample; nothing for what has no size."""
    if not size:
        return
    part = Window(0, 0, size, size)
    with rasterio.open(SAMPLE) as raster:
        profile = {**raster.profile, "height": size, "width": size, "transform": raster.window_transform(part)}
        with rasterio.open(folder / "piece.tif", "w", **profile) as written:
            written.write(raster.read(window=part))
            for index, name in enumerate(raster.descriptions, start=1):
                written.set_band_description(index, name)


def prepare_help(way: str, size: int, folder: Path) -> Work:
    if way == "terratorch":
        need("terratorch")
    return whole({
        "ours": [sys.executable, "-m", "prithvi", "--help"],
        "terratorch": [sys.executable, "-m", "terratorch", "--help"],
        "python": [sys.executable, "-c", "pass"],
    }[way], folder)  # fmt: skip


def prepare_import(way: str, size: int, folder: Path) -> Work:
    if way == "terratorch":
        need("terratorch")
    what = {"ours": "import prithvi", "terratorch": "import terratorch", "python": "pass"}[way]
    return whole([sys.executable, "-c", what], folder)


def prepare_first_map(way: str, size: int, folder: Path) -> Work:
    if way == "imports":
        return whole([sys.executable, "-c", "import torch, rasterio, xarray"], folder)
    words = ["map", "water", "piece.tif", "-o", "maps", "--sensor", "sentinel-2-l1c", "--date", "2019-09-18"]
    return whole([sys.executable, "-m", "prithvi", *words], folder)
