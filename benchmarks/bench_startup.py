"""How long the first answer takes: help texts, and the map of a piece of 192 x 192 pixels, beside another checkout.

    git worktree add ../old COMMIT
    python benchmarks/bench_startup.py [../old] [--rounds 7] [--model demo/model]

Whole processes on one thread, by turns: CPU seconds (user and system) and wall, medians after a first round that fills
the file cache. Without another checkout its columns are left out; without a model the demo makes one in 24 steps.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import rasterio
from rasterio.windows import Window

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "data_catalog/sen1floods11/samples/S2Hand/Spain_7370579_S2Hand.tif"
Taken = tuple[float, float]
"""CPU and wall seconds."""


def seconds(command: list[str], checkout: Path) -> Taken:
    """What one run of a command takes, with the code of a checkout.

    Raises:
        SystemExit: it failed.

    """
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    # Not in a checkout, whose code `python -m` would take.
    quiet = {"cwd": tempfile.gettempdir(), "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=environment, **quiet)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{checkout}: {' '.join(command)} ended with status {process.returncode}")
    return used.ru_utime + used.ru_stime, time.perf_counter() - start


def small_piece(path: Path) -> Path:
    """192 x 192 pixels of the shipped sample."""
    part = Window(160, 160, 192, 192)
    with rasterio.open(SAMPLE) as raster:
        profile = {**raster.profile, "height": 192, "width": 192, "transform": raster.window_transform(part)}
        with rasterio.open(path, "w", **profile) as written:
            written.write(raster.read(window=part))
            for index, name in enumerate(raster.descriptions, start=1):
                written.set_band_description(index, name)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, nargs="?", help="another checkout")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    python = [sys.executable, "-m", "prithvi"]
    try:
        model = arguments.model and arguments.model.resolve()
        if model is None:
            seconds([*python, "demo", "-o", str(folder / "demo"), "--steps", "24"], ROOT)
            model = folder / "demo" / "model"
        scene = small_piece(folder / "piece.tif")
        opening = ["--sensor", "sentinel-2-l1c", "--date", "2019-09-18"]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "import prithvi": [sys.executable, "-c", "import prithvi"],
            "prithvi --help": [*python, "--help"],
            "import torch": [sys.executable, "-c", "import torch"],
            "prithvi map, 192 x 192": [*python, "map", str(model), str(scene), "-o", str(folder / "maps"), *opening],
        }
        places = {"this": ROOT} | ({"old": arguments.old} if arguments.old is not None else {})
        taken: dict[tuple[str, str], list[Taken]] = defaultdict(list)
        for turn in range(arguments.rounds + 1):
            for what, command in commands.items():
                for place, checkout in list(places.items())[:: 1 if turn % 2 else -1]:
                    used = seconds(command, checkout)
                    if turn:
                        taken[what, place].append(used)
        theirs = Path(sys.executable).parent / "terratorch"
        if theirs.is_file():
            taken["terratorch --help", "this"] = [seconds([str(theirs), "--help"], ROOT)]
        print("| command | code | CPU, s | wall, s | this / old, CPU | this / old, wall |\n|---|---|---|---|---|---|")
        for (what, place), runs in taken.items():
            middle = [f"{statistics.median(run[index] for run in runs):.2f}" for index in (0, 1)]
            old = taken.get((what, "old"), []) if place == "this" else []
            ratios = [
                f"{statistics.median(one[index] / other[index] for one, other in zip(runs, old, strict=True)):.2f}"
                if old
                else ""
                for index in (0, 1)
            ]
            print(f"| {what} | {place} | {' | '.join([*middle, *ratios])} |")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
