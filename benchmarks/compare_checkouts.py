"""CPU seconds and peak memory of verbs in two checkouts of this project, in turns: has a change made them worse?

    git worktree add ../old COMMIT
    python benchmarks/compare_checkouts.py ../old . [--pairs 9] [--verbs map fill build pretrain fit]

Each run is a whole process (start included) on one thread: user and system seconds of it and its children, and the
largest resident set of any of them. In each pair both checkouts run, the first of them in turns. Ratios are new / old
by pair; their median has the exact interval of order statistics (for 9 pairs ranks 2 and 8, which hold the median in
96 % of samples, whatever the distribution).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from math import comb
from pathlib import Path

import numpy as np
import rasterio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.synthetic_hls import make_archive

VERBS = ("map", "fill", "build", "pretrain", "fit")
SERIES = ("2018-05-09", "2018-06-03", "2018-06-28", "2018-07-18")


def large_scene(catalog: Path, path: Path, times: int) -> Path:
    """The flood sample beside and below itself."""
    with rasterio.open(catalog / "sen1floods11/samples/S2Hand/Spain_7370579_S2Hand.tif") as raster:
        pixels = np.tile(raster.read(), (1, times, times))
        profile = {**raster.profile, "height": pixels.shape[1], "width": pixels.shape[2], "tiled": True}
        names = raster.descriptions
    profile |= {"blockxsize": 256, "blockysize": 256}
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(pixels)
        for index, name in enumerate(names, start=1):
            raster.set_band_description(index, name)
    return path


def commands(verbs: list[str], old: Path, model: Path, folder: Path) -> dict[str, list[str]]:
    """The words after `prithvi` of each verb; OUT stands for a folder of the run's own."""
    catalog = Path(__file__).resolve().parents[1] / "data_catalog"
    scene, flanders = large_scene(catalog, folder / "scene.tif", 2), catalog / "samples" / "flanders"
    fill = ["fill", "prithvi_hls_tiny", *(str(flanders / f"{day}.tif") for day in SERIES), "-o", "OUT"]
    for day in SERIES:
        fill += ["--date", day, "--clouds", str(flanders / f"{day}_clouds.tif")]
    for split in ("train", "val", "test"):
        (folder / f"{split}_split.txt").write_text("Spain_7370579\n")
    # Many epochs of the one chip: reading and cutting it is what a change of the reader would slow down.
    fit = [
        "fit", "-c", str(catalog.parent / "configs" / "flood.yaml"),
        "--data.root", str(catalog / "sen1floods11" / "samples"), "--data.splits", str(folder),
        "--data.crop", "64", "--data.batch_size", "1", "--data.num_workers", "0", "--model.window", "64",
        "--model.model_options", '{"embed_dim": 64, "depth": 2, "num_heads": 2}', "--trainer.max_epochs", "20",
        "--trainer.check_val_every_n_epoch", "10", "--trainer.default_root_dir", "OUT",
        "--trainer.accelerator", "cpu", "--trainer.logger.init_args.save_dir", "OUT",
        "--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", "1",
    ]  # fmt: skip
    archive, store = folder / "archive", folder / "chips.zarr"
    build = ["data", "build", str(archive), "--size", "64", "--frames", "1", "--good", "0.5", "-o"]
    if "build" in verbs or "pretrain" in verbs:
        make_archive(archive, ["31TCJ", "31UDS"], dates=3, size=1830)
    if "pretrain" in verbs:
        measured(old, [*build, str(store)])
    pretrain = [
        "fit", "-c", str(catalog.parent / "configs" / "pretrain_tiny.yaml"), "--data.stores", f"[{store}]",
        "--data.num_workers", "0", "--data.batch_size", "8", "--trainer.max_steps", "20",
        "--trainer.callbacks", "[]", "--model.masks", "{random: 1.0}",
        "--trainer.limit_val_batches", "0", "--trainer.default_root_dir", "OUT",
        "--trainer.logger.init_args.save_dir", "OUT", "--trainer.enable_progress_bar", "false",
    ]  # fmt: skip
    found = {
        "map": ["map", str(model), str(scene), "-o", "OUT", "--sensor", "sentinel-2-l1c", "--date", "2019-09-18"],
        "fill": fill,
        "build": [*build, "OUT/chips.zarr"],
        "pretrain": pretrain,
        "fit": fit,
    }
    return {verb: found[verb] for verb in verbs}


def measured(checkout: Path, words: list[str]) -> tuple[float, float]:
    """User and system seconds of one run with its children, and its peak memory in MB.

    Raises:
        SystemExit: the run failed; its output is shown.

    """
    with tempfile.TemporaryDirectory() as out, tempfile.TemporaryFile() as said:
        command = [sys.executable, "-m", "prithvi", *(word.replace("OUT", out) for word in words)]
        environment = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, env=environment, cwd=out, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        if process.returncode:
            raise SystemExit(f"{checkout}: {' '.join(command)}\n{said.read().decode()}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def interval(ratios: list[float], confidence: float = 0.95) -> tuple[float, float]:
    """The narrowest symmetric pair of order statistics that holds the median with at least this probability."""
    ordered, n = sorted(ratios), len(ratios)
    for rank in range(n // 2, -1, -1):
        outside = 2 * sum(comb(n, k) for k in range(rank + 1)) / 2**n
        if 1 - outside >= confidence:
            return ordered[rank], ordered[n - 1 - rank]
    return ordered[0], ordered[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--verbs", nargs="+", default=["map", "fill"], choices=VERBS)
    parser.add_argument("--model", type=Path, help="a model folder; default one that the old demo makes in 24 steps")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        model = arguments.model
        if model is None:
            measured(arguments.old, ["demo", "-o", str(folder / "demo"), "--steps", "24"])
            model = folder / "demo" / "model"
        print("| verb | | old | new | new / old | 95 % interval | pairs |\n|---|---|---|---|---|---|---|")
        for verb, words in commands(arguments.verbs, arguments.old, model.resolve(), folder).items():
            taken: dict[Path, list[tuple[float, float]]] = {arguments.old: [], arguments.new: []}
            for pair in range(arguments.pairs + 1):
                for place in (arguments.old, arguments.new)[:: 1 if pair % 2 else -1]:
                    used = measured(place, words)
                    if pair:  # the first pair fills the file cache
                        taken[place].append(used)
            for index, what in enumerate(("CPU, s", "peak, MB")):
                old, new = ([run[index] for run in taken[place]] for place in (arguments.old, arguments.new))
                ratios = [mine / theirs for theirs, mine in zip(old, new, strict=True)]
                low, high = interval(ratios)
                print(
                    f"| {verb} | {what} | {statistics.median(old):.2f} | {statistics.median(new):.2f} | "
                    f"{statistics.median(ratios):.3f} | {low:.3f} to {high:.3f} | {len(ratios)} |",
                    flush=True,
                )
            plain = {str(place): [[round(value, 3) for value in run] for run in runs] for place, runs in taken.items()}
            print(json.dumps({verb: plain}), file=sys.stderr)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
