"""Comparison of methods over fractions of the labels and several seeds: its definition, trials and results.

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
      trees: {baseline: trees}
      MNDWI: {baseline: index, bands: [green, swir_1], positive: water, above: true}
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prithvi.errors import ConfigError, nearest, one_of
from prithvi.files import dumps, read_yaml, write_text

_KEYS = ("fit", "figure", "smaller", "fractions", "seeds", "options", "methods", "title")
BASELINES = {"trees": (), "index": ("bands", "positive", "above"), "gaps": ("method",)}
"""Settings of each baseline (a method not trained by gradient descent), by name."""


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
    methods, fractions = plain["methods"], plain.get("fractions", [1.0])
    if not isinstance(methods, dict) or not methods or not all(isinstance(entry, dict) for entry in methods.values()):
        raise ConfigError(f"{path}: methods must be a table with a table of settings for each; it is {methods!r}.")
    folders = [Trial(str(name), 1.0, 0).name for name in methods]
    if len(set(folders)) < len(folders):
        raise ConfigError(f"{path}: two methods differ in signs alone ({', '.join(map(str, methods))}): rename one.")
    for name, settings in methods.items():
        _check_baseline(path, name, settings)
    if not isinstance(fractions, list) or not fractions or not all(_is_share(value) for value in fractions):
        raise ConfigError(f"{path}: fractions must be a list of shares above 0 and at most 1; it is {fractions!r}.")
    seeds = plain.get("seeds", 5)
    if not isinstance(seeds, int) or seeds < 1:
        raise ConfigError(f"{path}: seeds must be a number of 1 and more; it is {seeds!r}.")
    options = plain.get("options") or {}
    return Comparison(
        str(plain["fit"]), str(plain["figure"]), {str(name): dict(entry) for name, entry in methods.items()},
        tuple(float(value) for value in fractions), seeds, tuple(options.items()), bool(plain.get("smaller", False)),
        str(plain.get("title", path.stem)),
    )  # fmt: skip


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value <= 1


def _check_baseline(path: Path, name: str, settings: Mapping[str, Any]) -> None:
    kind = settings.get("baseline")
    if kind is None:
        return
    wanted = {"baseline", *BASELINES[one_of(str(kind), BASELINES, f"{path}, {name}: there is no baseline")]}
    if set(settings) != wanted:
        raise ConfigError(
            f"{path}, {name}: a baseline {kind} has the settings {', '.join(sorted(wanted))}; found "
            f"{', '.join(sorted(settings))}."
        )


def read_result(folder: Path, trial: Trial, settings: Mapping[str, Any]) -> Result | None:
    """Reads the result of a finished trial; None if it has not been run.

    Raises:
        ConfigError: the trial was run with other settings.

    """
    path = folder / trial.name / "result.json"
    if not path.is_file():
        return None
    plain = json.loads(path.read_text(encoding="utf-8"))
    if plain["settings"] != json.loads(json.dumps(settings)):
        raise ConfigError(f"{path} was made with other settings: choose another folder (-o), or remove it.")
    figures = {name: math.nan if value is None else value for name, value in plain["figures"].items()}
    return Result(trial, figures, plain["seconds"], plain["chips"])


def write_result(folder: Path, result: Result, settings: Mapping[str, Any]) -> None:
    """Writes the result of a trial, atomically."""
    place = folder / result.trial.name
    plain = {
        "settings": settings,
        "figures": result.figures,
        "seconds": round(result.seconds, 1),
        "chips": result.chips,
    }
    write_text(place / "result.json", dumps(plain, indent=1) + "\n")


@dataclass(frozen=True)
class Row:
    """Results of one method with one fraction of the labels, over all seeds."""

    method: str
    fraction: float
    values: tuple[float, ...]
    """The figure, by seed."""

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float:
        """Standard deviation over seeds; NaN for a single seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan

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
