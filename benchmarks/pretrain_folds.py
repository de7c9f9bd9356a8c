"""Pretrains the shipped model's run once for each fold of hls_water without that fold's places, to measure it there.

    python benchmarks/pretrain_folds.py FOLDER OUT [--folds 0,1,2,3,4] [--workers 2] [--steps 2400] [MORE]

FOLDER holds the sources of `pretraining_imagery.py`. OUT gets foldK/stores and foldK/run/model for each fold K; with
`all` among the folds also all/run/model, the model that ships. What is done is not done again, and a run that was
interrupted goes on from its last checkpoint. MORE is given to `prithvi fit` as it is, such as --model.label_weight 0.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parent / "configs" / "pretrain_tiny_labels.yaml"


def stores_of(folder: Path, out: Path, fold: str) -> Path:
    """The stores of a fold, built if they are not there."""
    stores, done = out / fold / "stores", out / fold / "stores.done"
    if not done.is_file():
        without = [] if fold == "all" else ["--without-fold", fold.removeprefix("fold")]
        command = [sys.executable, str(HERE / "pretraining_imagery.py"), str(folder), str(stores), *without]
        subprocess.run(command, check=True, env=one_thread())
        done.touch()
    return stores


def pretrain(stores: Path, run: Path, steps: int, more: list[str]) -> Path:
    """The model of a run, trained from its last checkpoint or from nothing."""
    model, last = run / "runs" / "pretrain_tiny" / "model", run / "runs" / "pretrain_tiny" / "last.ckpt"
    if not (model / "config.json").is_file():
        run.mkdir(parents=True, exist_ok=True)
        names = ", ".join(str(stores / f"{name}.zarr") for name in ("sr", "toa", "series"))
        arguments = [
            "fit", "-c", str(CONFIG), "--data.stores", f"[{names}]", "--data.clouds", f"[{stores / 'clouds.zarr'}]",
            "--trainer.max_steps", str(steps), "--trainer.enable_progress_bar", "false", *more,
        ]  # fmt: skip
        resumed = ["--ckpt_path", str(last)] if last.is_file() else []
        with (run / "log.txt").open("a") as log:
            command = [sys.executable, "-m", "prithvi", *arguments, *resumed]
            subprocess.run(command, check=True, cwd=run, env=one_thread(), stdout=log, stderr=log)
    return model


def one_thread() -> dict[str, str]:
    """The environment of a run: several run side by side, each on one core."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--folds", default="all,0,1,2,3,4")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2400)
    options, more = parser.parse_known_args()
    out = options.out.resolve()
    folds = [fold if fold == "all" else f"fold{int(fold)}" for fold in options.folds.split(",")]

    def one(fold: str) -> str:
        stores = stores_of(options.folder.resolve(), out, fold)
        return f"{fold}: {pretrain(stores, out / fold / 'run', options.steps, more)}"

    with ThreadPoolExecutor(options.workers) as pool:
        for told in pool.map(one, folds):
            print(told, flush=True)


if __name__ == "__main__":
    main()
