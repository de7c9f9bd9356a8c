"""Trials that are written one by one as they end, so that a run which was stopped goes on where it stood."""

from __future__ import annotations

import csv
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prithvi.files import dumps, write_text


@dataclass(frozen=True)
class Trial:
    """One result to find: everything that it depends on, but the data."""

    task: str
    """`frozen`, `fine-tuned`, ..."""
    data: str
    method: str
    share: float
    """Of the labels, or labels a class."""
    seed: int
    fold: int = -1
    weights: str = ""
    """Pretrained model; empty of a method that needs none."""
    digest: str = ""
    """Of those weights."""
    settings: str = ""
    """What else the result depends on, such as the number of steps."""

    def file(self, out: Path) -> Path:
        """Where its result lies."""
        parts = [self.method, f"{self.share:g}", f"seed{self.seed}"]
        parts += [f"fold{self.fold}"] * (self.fold >= 0) + [self.settings] * bool(self.settings)
        parts += [self.digest] * bool(self.digest)
        name = "_".join(part.replace(" ", "-").replace("/", "-") for part in parts)
        return out / self.task / self.data / f"{name}.json"


Run = Callable[[Trial], dict[str, Any]]


def found(trial: Trial, out: Path) -> dict[str, Any] | None:
    """The result of a trial that ended; None of any other."""
    file = trial.file(out)
    return json.loads(file.read_text()) if file.is_file() else None


def keep(trial: Trial, out: Path, run: Run) -> dict[str, Any]:
    """The result of a trial: as it was written, or run and written now."""
    known = found(trial, out)
    if known is not None:
        return known
    started, cpu = time.monotonic(), time.process_time()
    result = {"trial": asdict(trial), **run(trial)}
    result |= {"seconds": round(time.monotonic() - started, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}
    trial.file(out).parent.mkdir(parents=True, exist_ok=True)
    write_text(trial.file(out), dumps(result, indent=1) + "\n")
    return result


def run_all(trials: Sequence[Trial], out: Path, run: Run, workers: int = 1) -> list[dict[str, Any]]:
    """Results of all trials, in their order; those that are there are not run again.

    Args:
        trials: what to find.
        out: folder of results.
        run: what finds one; a function of a module, so that other processes can call it.
        workers: processes at once, a thread each.

    """
    waiting = [trial for trial in trials if found(trial, out) is None]
    print(f"{len(trials)} trials, {len(trials) - len(waiting)} of them done before", file=sys.stderr, flush=True)
    started, done = time.monotonic(), 0

    def tell(trial: Trial, result: dict[str, Any]) -> None:
        left = (time.monotonic() - started) / done * (len(waiting) - done) / 60
        figures = " ".join(f"{name} {value:.3f}" for name, value in result["figures"].items())
        taken = f"{result['seconds']:.0f} s; about {left:.0f} minutes left"
        print(f"{_name(trial)}: {figures}   {taken}", file=sys.stderr, flush=True)

    if workers == 1:
        for trial in waiting:
            result, done = keep(trial, out, run), done + 1
            tell(trial, result)
    elif waiting:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        with ProcessPoolExecutor(workers) as pool:
            futures = {pool.submit(keep, trial, out, run): trial for trial in waiting}
            for future in as_completed(futures):
                result, done = future.result(), done + 1
                tell(futures[future], result)
    results = [result for trial in trials if (result := found(trial, out)) is not None]
    print(f"these took {sum(result['cpu_seconds'] for result in results) / 3600:.2f} hours of one core", flush=True)
    return results


def _name(trial: Trial) -> str:
    fold = f", fold {trial.fold}" if trial.fold >= 0 else ""
    return f"{trial.task} {trial.data}, {trial.method}, {trial.share:g}, seed {trial.seed}{fold}"


def spread(values: Iterable[float]) -> tuple[float, float]:
    """Mean and standard deviation (0 of a single one)."""
    values = list(values)
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], target: Path) -> str:
    """A table as CSV and Markdown, under one name; the Markdown is returned.

    Cells that are pairs of mean and standard deviation become two columns of the CSV.
    """
    paired = [any(isinstance(row[place], tuple) for row in rows) for place in range(len(columns))]
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            [name for c, two in zip(columns, paired, strict=True) for name in ((c, f"{c} std") if two else (c,))]
        )
        for row in rows:
            cells: list[Any] = []
            for cell, two in zip(row, paired, strict=True):
                cells += [f"{v:.4f}" for v in cell] if isinstance(cell, tuple) else [cell] + [""] * two
            writer.writerow(cells)
    lines = [f"### {title}", "", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(_shown(cell) for cell in row)} |" for row in rows]
    text = "\n".join(lines) + "\n"
    write_text(target.with_suffix(".md"), text)
    return text


def _shown(cell: Any) -> str:
    if isinstance(cell, tuple):
        return f"{cell[0]:.3f} ± {cell[1]:.3f}"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)
