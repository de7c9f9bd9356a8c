"""Comparison of methods over fractions of the labels and several seeds: its definition, trials, results and report.

A comparison is defined by a YAML file:

    fit: flood.yaml                 # configuration of 'prithvi fit', beside this file or shipped
    figure: IoU_water               # metric of the test split; larger is better, unless smaller: true
    fractions: [0.1, 0.25, 0.5, 1]  # fractions of the training chips; smaller subsets nest in larger ones
    seeds: 5                        # number of seeds of weights, subsets and, through seed_everything, sample order
    options: {trainer.max_steps: 2000}        # options of every training run
    methods:
      pretrained: {model.init: prithvi_hls_tiny, model.statistics: init}
      random: {model.init: null}
      U-Net: {model.head: unet}
      MNDWI: {baseline: index, bands: [green, swir_1], positive: water, above: true}

Beside the methods of the file there are always the simple ones of `ALWAYS`, unless the file says `baselines: false`
and, by `because`, for what reason.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from prithvi.errors import MALFORMED, ConfigError, first_line, nearest, one_of
from prithvi.files import atomic_file, dumps, read_json, read_yaml, table, write_text

_KEYS = ("fit", "figure", "smaller", "fractions", "seeds", "options", "methods", "title", "baselines", "because")
_PAGE = Path(__file__).with_name("comparison.html.jinja")
BASELINES = {"trees": (), "index": ("bands", "positive", "above"), "gaps": ("method",)}
"""Settings of each baseline (a method not trained by gradient descent), by name."""
ALWAYS: dict[str, dict[str, dict[str, Any]]] = {
    "segmentation": {
        "image statistics": {"model.head": "image_statistics"},
        "index": {"model.head": "index"},
        "random features": {"model.head": "random_features"},
        "trees": {"model.head": "trees"},
    },
    "gap filling": {
        "nearest date": {"baseline": "gaps", "method": "nearest"},
        "linear in time": {"baseline": "gaps", "method": "linear"},
        "regression": {"baseline": "gaps", "method": "regression"},
        "filling": {"baseline": "gaps", "method": "filling"},
        "local regression": {"baseline": "gaps", "method": "local_regression"},
    },
}
"""Methods that every comparison has, by kind of task."""


@dataclass(frozen=True)
class Trial:
    """A run of one method, with one fraction of the labels and one seed."""

    method: str
    fraction: float
    seed: int

    @property
    def name(self) -> str:
        """Name of its folder."""
        plain = "".join(letter if letter.isalnum() else "_" for letter in self.method)
        return f"{plain}-{self.fraction:g}-{self.seed}"


@dataclass(frozen=True)
class Result:
    """The result of a trial."""

    trial: Trial
    figures: dict[str, float]
    """Metrics of the test split, by name."""
    seconds: float
    """Wall-clock time of the trial."""
    chips: int
    """Number of labelled training chips."""


@dataclass(frozen=True)
class Comparison:
    """The definition of a comparison."""

    fit: str
    figure: str
    methods: dict[str, dict[str, Any]]
    fractions: tuple[float, ...] = (1.0,)
    seeds: int = 5
    options: tuple[tuple[str, Any], ...] = ()
    smaller: bool = False
    """Whether smaller values of the metric are better."""
    title: str = ""
    added: tuple[str, ...] = ()
    """Those of the methods that the file does not name."""
    because: str = ""
    """Why the baselines of `ALWAYS` were left out; empty where they were not."""

    def trials(self) -> Iterator[Trial]:
        """All trials: all methods with one seed and fraction before the next, so that an early stop leaves pairs."""
        for seed in range(self.seeds):
            for fraction in self.fractions:
                for method in self.methods:
                    yield Trial(method, fraction, seed)


def read_comparison(path: Path) -> Comparison:
    """Reads the definition of a comparison from a YAML file.

    Raises:
        ConfigError: the file cannot be read, or has an invalid key or value.

    """
    plain = read_yaml(path)
    for key in plain:
        one_of(key, _KEYS, f"{path}: there is no setting")
    for key in ("fit", "figure", "methods"):
        if key not in plain:
            raise ConfigError(f"{path} does not say {key}.")
    methods, fractions, seeds = plain["methods"], plain.get("fractions", [1.0]), plain.get("seeds", 5)
    if not isinstance(methods, dict) or not methods or not all(isinstance(entry, dict) for entry in methods.values()):
        raise ConfigError(f"{path}: methods must be a table with a table of settings for each; it is {methods!r}.")
    folders = [Trial(str(name), 1.0, 0).name for name in methods]
    if len(set(folders)) < len(folders):
        raise ConfigError(f"{path}: two methods differ in signs alone ({', '.join(map(str, methods))}): rename one.")
    for name, settings in methods.items():
        _check_baseline(path, name, settings)
    wanted, because = plain.get("baselines", True), str(plain.get("because") or "")
    if not isinstance(wanted, bool) or wanted == bool(because):
        raise ConfigError(f"{path}: the simple baselines stay, or baselines: false stands beside because: a reason.")
    shares = fractions if isinstance(fractions, list) else []
    if not shares or not all(isinstance(value, int | float) and 0 < value <= 1 for value in shares):
        raise ConfigError(f"{path}: fractions must be a list of shares above 0 and at most 1; it is {fractions!r}.")
    if not isinstance(seeds, int) or seeds < 1:
        raise ConfigError(f"{path}: seeds must be a number of 1 and more; it is {seeds!r}.")
    named = {str(name): dict(entry) for name, entry in methods.items()}
    options = tuple(table(f"{path}: options", plain.get("options")).items())
    title = str(plain.get("title", path.stem))
    smaller, fractions = bool(plain.get("smaller", False)), tuple(map(float, shares))
    return Comparison(
        str(plain["fit"]), str(plain["figure"]), named, fractions, seeds, options, smaller, title, because=because
    )


def with_baselines(comparison: Comparison, task: str) -> Comparison:
    """A comparison with those methods of `ALWAYS` that its file does not have.

    Args:
        comparison: as its file defines it.
        task: class of the task that the configuration of `fit` names.

    """
    always = ALWAYS["gap filling" if task.rpartition(".")[2] == "GapFillTask" else "segmentation"]
    there = [as_options(settings) for settings in comparison.methods.values()]
    taken = {Trial(name, 1.0, 0).name for name in comparison.methods}
    added = {
        name if Trial(name, 1.0, 0).name not in taken else f"{name} (always)": settings
        for name, settings in always.items()
        if settings not in there
    }
    return dataclasses.replace(comparison, methods={**comparison.methods, **added}, added=tuple(added))


def as_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `prithvi fit` that a method stands for; those of methods that fill gaps stay as they are."""
    kind = settings.get("baseline")
    if kind == "trees":
        return {"model.head": "trees"}
    if kind == "index":
        options = {"pair": settings["bands"], "positive": settings["positive"], "above": settings["above"]}
        return {"model.head": "index", "model.head_options": options}
    return dict(settings)


def _check_baseline(path: Path, name: str, settings: Mapping[str, Any]) -> None:
    kind = settings.get("baseline")
    if kind is None:
        return
    wanted = {"baseline", *BASELINES[one_of(str(kind), BASELINES, f"{path}, {name}: there is no baseline")]}
    if set(settings) != wanted:
        right, found = (", ".join(sorted(names)) for names in (wanted, settings))
        raise ConfigError(f"{path}, {name}: a baseline {kind} has the settings {right}; found {found}.")


def read_result(folder: Path, trial: Trial, settings: Mapping[str, Any]) -> Result | None:
    """Reads the result of a finished trial; None if it has not been run.

    Raises:
        ConfigError: the trial was run with other settings, or the file is damaged.

    """
    path = folder / trial.name / "result.json"
    if not path.is_file():
        return None
    try:
        plain = read_json(path)
        figures = {name: math.nan if value is None else float(value) for name, value in plain["figures"].items()}
        known, result = plain["settings"], Result(trial, figures, float(plain["seconds"]), int(plain["chips"]))
    except MALFORMED as error:  # read_json's own is one
        raise ConfigError(f"{path} is damaged ({first_line(error)}): remove it, and the trial runs again.") from error
    if known != json.loads(json.dumps(settings)):
        raise ConfigError(f"{path} was made with other settings: choose another folder (-o), or remove it.")
    return result


def write_result(folder: Path, result: Result, settings: Mapping[str, Any]) -> None:
    """Writes the result of a trial, atomically."""
    measured = {"figures": result.figures, "seconds": round(result.seconds, 1), "chips": result.chips}
    write_text(folder / result.trial.name / "result.json", dumps({"settings": settings, **measured}, indent=1) + "\n")


@dataclass(frozen=True)
class Row:
    """Results of one method with one fraction of the labels, over all seeds."""

    method: str
    fraction: float
    values: tuple[float, ...]
    """The figure, by seed."""

    @property
    def mean(self) -> float:
        """Mean over seeds; NaN if the figure has no value for one of them."""
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float:
        """Standard deviation over seeds; NaN for a single seed, or if the figure has no value for one of them."""
        known = len(self.values) > 1 and all(map(math.isfinite, self.values))
        return statistics.stdev(self.values) if known else math.nan

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if math.isnan(self.spread) else f"{self.mean:.3f} ± {self.spread:.3f}"


def rows_of(results: Sequence[Result], figure: str) -> list[Row]:
    """Results grouped by method and fraction, in order of first occurrence.

    Raises:
        ConfigError: the metric `figure` was not measured.

    """
    groups: dict[tuple[str, float], list[Result]] = {}
    for result in results:
        if figure not in result.figures:
            raise ConfigError(f"no figure {figure!r} was measured: {nearest(figure, result.figures)}")
        groups.setdefault((result.trial.method, result.trial.fraction), []).append(result)
    return [Row(*group, tuple(each.figures[figure] for each in some)) for group, some in groups.items()]


def write_report(
    folder: Path,
    comparison: Comparison,
    results: Sequence[Result],
    record: Mapping[str, Any],
    impossible: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Writes table.md, curve.png, index.html and results.csv (all metrics of all trials), each whole or as it was.

    Args:
        folder: folder to write to.
        comparison: definition of the comparison.
        results: results so far.
        record: how they were made (command, versions, machine), by name.
        impossible: why a method cannot be applied to these data, by its name.

    Raises:
        OutputError: one cannot be written.

    """
    import jinja2
    from matplotlib.figure import Figure

    from prithvi.plot import label_efficiency

    found = {(row.method, row.fraction): str(row) for row in rows_of(results, comparison.figure)}
    table = {
        f"{name}: not possible, {impossible[name]}" if name in impossible else name: [
            found.get((name, share), "-") for share in comparison.fractions
        ]
        for name in comparison.methods
    }
    heads = [f"{100 * fraction:g} %" for fraction in comparison.fractions]
    lines = [f"| {comparison.figure} | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    lines += [f"| {method} | {' | '.join(cells)} |" for method, cells in table.items()]
    if comparison.because:
        lines += ["", f"Without the simple baselines: {comparison.because}"]
    write_text(folder / "table.md", "\n".join(lines) + "\n")
    # The chart has a line per method over the number of labelled chips, or bars for a single fraction.
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    trials = [(each.trial.method, each.chips, each.figures[comparison.figure]) for each in results]
    label_efficiency(trials, figure.add_subplot(), figure=comparison.figure)
    with atomic_file(folder / "curve.png") as written:
        figure.savefig(written, dpi=120, metadata={"Software": None})
    picture = base64.b64encode((folder / "curve.png").read_bytes()).decode()
    page = jinja2.Environment(autoescape=True).from_string(_PAGE.read_text(encoding="utf-8"))
    text = page.render(comparison=comparison, table=table, record=record, done=len(results), picture=picture)
    write_text(folder / "index.html", text)
    with atomic_file(folder / "results.csv") as written, written.open("w", newline="", encoding="utf-8") as file:
        names = sorted({name for result in results for name in result.figures})
        writer = csv.writer(file)
        writer.writerow(["method", "fraction", "seed", "chips", "seconds", *names])
        for each in results:
            figures = [each.figures.get(name, "") for name in names]
            writer.writerow([*astuple(each.trial), each.chips, each.seconds, *figures])
