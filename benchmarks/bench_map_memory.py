"""Peak memory of a map, and of a series that is filled, against the height of the scene: it should not grow.

    python benchmarks/bench_map_memory.py

The scene is the shipped sample, repeated; the series is two dates of it, filled by the nearest date. Each height runs
in a process of its own; the baseline is that process after one window. Beside it stands what the scores (of the series:
the pixels) of the whole scene would take in float32.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from flood_scene import write_scene

WIDTH, WINDOW, STRIDE, CLASSES = 3660, 64, 64, 13


def peak() -> float:
    """Highest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure(folder: Path, height: int) -> None:
    import torch

    import prithvi
    from prithvi.catalog import dataset
    from prithvi.mapping import map_scene
    from prithvi.tasks import SegmentationTask

    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    task = SegmentationTask(
        [f"class {i}" for i in range(CLASSES)], contract=dataset("sen1floods11").contract.to_dict(), head="light",
        window=WINDOW,
    )  # fmt: skip
    fitted = task.fitted()
    scene = prithvi.open_scene(folder / f"{height}.tif")
    map_scene(fitted, scene.isel(y=slice(0, WINDOW), x=slice(0, WINDOW)), folder / "warm.tif")
    before, start = peak(), time.perf_counter()
    map_scene(fitted, scene, folder / "map.tif", stride=STRIDE)
    whole = height * WIDTH * CLASSES * 4 / 1e6
    print(f"{height:7} {peak() - before:14.0f} {whole:22.0f} {time.perf_counter() - start:8.0f}", flush=True)


def measure_fill(folder: Path, height: int) -> None:
    import prithvi
    from prithvi.mapping import fill_series
    from prithvi.mapping.methods import days_of, nearest_date

    warnings.filterwarnings("ignore")
    days = ["2022-05-25", "2022-06-10"]
    (folder / "other.tif").unlink(missing_ok=True)
    (folder / "other.tif").symlink_to(folder / f"{height}.tif")
    series = prithvi.open_scene([str(folder / f"{height}.tif"), str(folder / "other.tif")], dates=days)

    def fill(image: np.ndarray, known: np.ndarray, times: np.ndarray, place: tuple[float, float]) -> np.ndarray:
        return nearest_date(image, known, days_of(times)).astype(np.float32)

    fill_series(series.isel(y=slice(0, 224), x=slice(0, 224)), folder / "warm", fill)
    before, start = peak(), time.perf_counter()
    fill_series(series, folder / "filled", fill)
    whole = height * WIDTH * 12 * 4 / 1e6
    print(f"{height:7} {peak() - before:14.0f} {whole:22.0f} {time.perf_counter() - start:8.0f}", flush=True)


def main() -> None:
    if len(sys.argv) == 4:
        {"map": measure, "fill": measure_fill}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
        return
    for what, title in (("map", f"a map of {CLASSES} classes"), ("fill", "two dates filled")):
        print(f"{title}, {WIDTH} wide")
        print(" height  MB above base           MB of it all  seconds")
        with tempfile.TemporaryDirectory() as work:
            for height in (1024, 3660, 7320):
                write_scene(Path(work) / f"{height}.tif", height, WIDTH)
                subprocess.run([sys.executable, __file__, what, work, str(height)], check=True)


if __name__ == "__main__":
    main()
