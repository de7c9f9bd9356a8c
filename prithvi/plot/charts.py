"""Charts of metrics: reliability diagrams, and label efficiency."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prithvi.errors import ConfigError, nearest
from prithvi.plot.colors import OKABE_ITO
from prithvi.plot.places import one

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from prithvi.metrics import Reliability

    Trials = Iterable[tuple[str, int, float]]

_MARKERS = "osD^vPX*"


def reliability(found: Reliability, ax: Axes | None = None) -> Axes:
    """Draws a reliability diagram: accuracy over confidence, a point per bin with an area by its number of pixels.

    Args:
        found: the result of `prithvi.metrics.CalibrationMetric`.
        ax: axes to draw on; None for a new figure.

    Raises:
        ConfigError: no pixel was counted.

    """
    confidence, accuracy, pixels = (values.cpu().numpy() for values in found)
    if not pixels.sum():
        raise ConfigError("no labelled pixel was counted, so there is no reliability to draw.")
    there, ax = pixels > 0, one(ax)
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    color = f"#{OKABE_ITO[4]}"
    ax.plot(confidence[there], accuracy[there], color=color, linewidth=1)
    ax.scatter(confidence[there], accuracy[there], s=20 + 400 * pixels[there] / pixels.sum(), color=color, alpha=0.7)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share that is right", aspect="equal")
    ax.set_title(f"ECE {float(found.error):.3f}")
    return ax


def label_efficiency(results: str | Path | Trials, ax: Axes | None = None, *, figure: str) -> Axes:
    """Draws a metric of each method over the number of labelled chips, with one standard deviation over seeds.

    If all trials have the same number of chips, it draws bars instead of lines.

    Args:
        results: a folder written by `prithvi compare`; or (method, labelled chips, metric) of each trial.
        ax: axes to draw on; None for a new figure.
        figure: name of the metric, such as IoU_water.

    Raises:
        ConfigError: there are no trials, or none has this metric.

    """
    trials = _read(Path(results), figure) if isinstance(results, (str, Path)) else list(results)
    methods: dict[str, dict[int, list[float]]] = {}
    for method, count, score in trials:
        scores = methods.setdefault(method, {})
        if math.isfinite(score):
            scores.setdefault(count, []).append(score)
    if not methods:
        raise ConfigError(f"there is no trial with the figure {figure} to draw.")
    counts = sorted({count for scores in methods.values() for count in scores})
    ax, several = one(ax), len(counts) > 1
    for place, (method, scores) in enumerate(methods.items()):
        color, chips = f"#{OKABE_ITO[place % len(OKABE_ITO)]}", sorted(scores)
        mean = np.array([statistics.fmean(scores[count]) for count in chips])
        spread = np.array([statistics.stdev(scores[count]) if len(scores[count]) > 1 else 0.0 for count in chips])
        if not several:
            ax.barh(place, mean, xerr=spread, color=color, label=method)
            continue
        ax.plot(chips, mean, marker=_MARKERS[place % len(_MARKERS)], color=color, label=method)
        ax.fill_between(chips, mean - spread, mean + spread, color=color, alpha=0.2, linewidth=0)
    if several:
        ax.set(xscale="log", xlabel="labelled chips", ylabel=figure)
        ax.set_xticks(counts, [f"{count:,}" for count in counts])
        ax.minorticks_off()
        ax.legend()
    else:
        ax.set_yticks(range(len(methods)), list(methods))
        ax.invert_yaxis()
        ax.set_xlabel(figure)
    ax.grid(alpha=0.3)
    return ax


def _read(folder: Path, figure: str) -> list[tuple[str, int, float]]:
    """Reads (method, labelled chips, metric) of all trials from results.csv of a comparison."""
    path = folder / "results.csv"
    if not path.is_file():
        raise ConfigError(f"{folder} has no results.csv: name the folder that 'prithvi compare' wrote.")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = set(reader.fieldnames or ()) - {"method", "fraction", "seed", "chips", "seconds"}
        if figure not in columns:
            raise ConfigError(f"{path} has no figure {figure!r}: {nearest(figure, columns)}")
        return [(row["method"], int(row["chips"]), float(row[figure] or math.nan)) for row in reader]
