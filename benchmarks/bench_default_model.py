"""Does the default model earn its place? Frozen, fine-tuned, water by place, a burn scar, speed; baselines beside.

    python benchmarks/bench_default_model.py --data FOLDER --out DIR --weights FOLDER_OR_NAME
        [--fold-weights 'DIR/fold{fold}'] [--seeds 5] [--tasks frozen floods ...] [--workers 2]

FOLDER holds the sources by name (worldcereal_training, agrifieldnet_india, hls_water, cold_springs_fire). Every trial
is written to DIR as it ends, under a name that holds its method, share, seed, fold, number of steps, and a digest of
the weights (or of their shape); one that is there is not run again, so that the same command goes on where it was
stopped. After a change of this code, take another DIR. Tables are written beside them, as Markdown and CSV.

Tasks: frozen (see frozen_features.py); floods, water, worldcereal, agrifieldnet (fine-tuned at 10, 30 and 100 % of the
labels: fine_tuning_shares.py, label_shares.py; water also by place: water_by_place.py); burn (reported, not counted);
speed (model_speed.py); left-out (with --left-out NAME=FOLDER ...: models pretrained without a part, frozen and on a
tenth of the water labels, one seed). `--weights none` measures all that needs no pretrained model.

Water is tested by folds of places: a model that saw the pixels of a fold in pretraining is not tested on it, so that it
takes a model for each fold (--fold-weights); --weights is used for the rest.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import fine_tuning_shares
import frozen_features
import model_speed
import water_by_place
from fine_tuning_shares import FIGURE, SHAPE, SHARES
from trials import Trial, run_all, spread, table

from prithvi.files import dumps, write_text
from prithvi.modelio.loader import find

TASKS = ("frozen", *fine_tuning_shares.DATA, "burn", "speed", "left-out")
Results = Sequence[dict[str, Any]]


@lru_cache(maxsize=32)
def digest(source: str, weights: bool = True) -> str:
    """Eight digits of a model's shape, and of its weights."""
    config, file = find(source) if weights or source != SHAPE else (model_config(source), None)
    shape = {key: value for key, value in config.to_dict().items() if key not in ("mean", "std", "img_size")}
    content = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    if weights and file is not None:
        content.update(file.read_bytes())
    return content.hexdigest()[:8]


def model_config(name: str) -> Any:
    """The configuration of a named model."""
    from prithvi.models.zoo import configure

    return configure(name)


def frozen_table(results: Results, title: str, target: Path) -> str:
    """Balanced accuracy by kind of features; of water its pooled IoU too."""
    rows: list[list[Any]] = []
    labels = [str(number) for number in frozen_features.LABELS]
    water = any(result["counts"] for result in results)
    for method in dict.fromkeys(result["trial"]["method"] for result in results):
        mine = [result for result in results if result["trial"]["method"] == method]
        seeds = sorted({result["trial"]["seed"] for result in mine})
        scores = np.array([
            [np.mean([r["figures"][n] for r in mine if r["trial"]["seed"] == seed]) for n in labels] for seed in seeds
        ])  # fmt: skip
        row: list[Any] = [
            method,
            mine[0]["features"],
            *(spread(column) for column in scores.T),
            spread(scores.mean(axis=1)),
        ]
        if water:
            row += [spread([_iou(mine, seed, number) for seed in seeds]) for number in labels]
        rows.append(row)
    columns = ["features", "number", *(f"{n} a class" for n in labels), "mean", *(f"IoU, {n}" for n in labels if water)]
    return table(title, columns, rows, target)


def _iou(results: Results, seed: int, number: str) -> float:
    hit, wrong, missed = np.sum([r["counts"][number] for r in results if r["trial"]["seed"] == seed], axis=0)
    return float(hit / (hit + wrong + missed))


def fine_tuned_table(results: Results, data: str, shares: Sequence[float], target: Path) -> str:
    """The figure by method and share, and whether the pretrained model is as good as the best of the others."""
    figure = FIGURE.get(data, "mIoU")
    values: dict[str, dict[float, list[float]]] = {}
    for method in dict.fromkeys(result["trial"]["method"] for result in results):
        for share in shares:
            mine = [r for r in results if r["trial"]["method"] == method and r["trial"]["share"] == share]
            if mine:
                found = (
                    water_by_place.by_seed(mine, good=True) if data == "water" else [r["figures"][figure] for r in mine]
                )
                values.setdefault(method, {})[share] = found
    rows = [[m, *(spread(of[s]) if s in of else "" for s in shares)] for m, of in values.items()]
    if "pretrained" in values:
        rows.append(["pretrained less the best other", *(verdict(values, share) for share in shares)])
    return table(f"{data}: {figure}", ["method", *(f"{share:.0%} of the labels" for share in shares)], rows, target)


def verdict(values: dict[str, dict[float, list[float]]], share: float) -> str:
    """Difference of the means to the best other method, and whether it lies within one standard deviation."""
    others = {name: spread(of[share]) for name, of in values.items() if name != "pretrained" and share in of}
    best = max(others, key=lambda name: others[name][0])
    (own, own_std), (other, other_std) = spread(values["pretrained"][share]), others[best]
    gap = own - other
    word = "won" if gap >= 0.02 else "reached" if gap >= -max(own_std, other_std) else "lost"
    return f"{gap:+.3f} ({best}): {word}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", default=SHAPE, help="folder or name; none for baselines alone")
    parser.add_argument("--fold-weights", help="the same for the folds of hls_water, with {fold}")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS[:-1])
    parser.add_argument("--methods", nargs="+", default=(), help="of fine-tuning; all by default")
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES)
    parser.add_argument("--steps", type=int, help="of each fine-tuning; default 300 or 200 by task")
    parser.add_argument("--head", default="fused", help="of the pretrained model and of random weights")
    parser.add_argument("--workers", type=int, default=2, help="processes at once, a thread each")
    parser.add_argument("--left-out", nargs="+", default=(), metavar="NAME=FOLDER")
    options = parser.parse_args()
    weights = None if options.weights == "none" else options.weights
    of = {"water": options.fold_weights or weights}
    shown: list[str] = []

    def frozen(data: str, seeds: int, source: str | None, **more: Any) -> list[dict[str, Any]]:
        trials: list[Trial] = frozen_features.trials(data, seeds, source, digest, **more)
        return run_all(trials, options.out, partial(frozen_features.run, root=options.data), options.workers)

    def tuned(data: str, seeds: int, source: str | None, **more: Any) -> list[dict[str, Any]]:
        more = {"shares": options.shares, "methods": options.methods, **more}
        trials = fine_tuning_shares.trials(data, seeds, source, digest, options.steps, options.head, **more)
        run = partial(fine_tuning_shares.run, root=options.data, head=options.head)
        return run_all(trials, options.out, run, options.workers)

    for task in options.tasks:
        if task == "frozen":
            for data in frozen_features.DATA:
                results = frozen(data, options.seeds, of.get(data, weights))
                shown.append(frozen_table(results, f"frozen, {data}", options.out / f"frozen_{data}"))
        elif task == "speed":
            shown.append(speed(weights or SHAPE, options.head, options.out))
        elif task == "left-out":
            folders = dict(pair.split("=", 1) for pair in options.left_out)
            shown += left_out(folders, frozen, tuned, options.out)
        else:
            shares = (1.0,) if task == "burn" else options.shares
            results = tuned(task, options.seeds, of.get(task, weights), shares=shares)
            shown.append(fine_tuned_table(results, task, shares, options.out / task))
            whole = [result for result in results if result["trial"]["share"] == 1.0]
            if task == "water" and whole:
                columns = ["method", "IoU, good chips", "IoU, all chips"]
                rows, pairs = water_by_place.rows_of(whole), water_by_place.difference_rows(whole)
                shown.append(table("water by place", columns, rows, options.out / "water_by_place"))
                shown.append(table("differences, 95 % by place", columns, pairs, options.out / "water_differences"))
        print(shown[-1] if shown else "", file=sys.stderr, flush=True)
    write_text(options.out / f"tables_{'_'.join(options.tasks)}.md", "\n".join(shown))
    print("\n".join(shown))


def speed(source: str, head: str, out: Path) -> str:
    """The table of speed; seconds of each repeat beside it."""
    config = find(source)[0] if source != SHAPE else model_config(source)
    found = model_speed.measure(config, head)
    (out / "speed.json").parent.mkdir(parents=True, exist_ok=True)
    write_text(out / "speed.json", dumps(found, indent=1) + "\n")
    columns = ["shape and head", "images a second", "seconds a step", "times faster forward", "times faster step"]
    title = f"{model_speed.SIZE} pixels, batches of {model_speed.BATCH}, {model_speed.THREADS} threads"
    return table(title, columns, model_speed.rows(found), out / "speed")


def left_out(folders: dict[str, str], frozen: Any, tuned: Any, out: Path) -> list[str]:
    """One row a model: its features, and a tenth of the water labels; one seed each."""
    kinds = [kind for kind in frozen_features.OF_MODELS if "parts" not in kind]
    rows: list[list[Any]] = []
    for name, folder in folders.items():
        row: list[Any] = [name]
        for data in ("worldcereal", "agrifieldnet"):
            results = {r["trial"]["method"]: r["figures"] for r in frozen(data, 1, folder, kinds=kinds)}
            row += [float(np.mean(list(results[kind].values()))) if kind in results else "" for kind in kinds]
        found = tuned("water", 1, folder, shares=SHARES[:1], methods=("pretrained",))
        rows.append([*row, water_by_place.by_seed(found, good=True)[0]])
    columns = ["left out", *(f"{data}, {kind}" for data in ("WorldCereal", "AgriFieldNet") for kind in kinds)]
    return [table("what each part of pretraining brings", [*columns, "water, 10 %"], rows, out / "left_out")]


if __name__ == "__main__":
    main()
