"""Charts of metrics: reliability diagrams, and label efficiency."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from prithvi.errors import ConfigError, first_line, nearest
from prithvi.plot.drawing import OKABE_ITO, one

if TYPE_CHECKING:
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
    trials = _trials(results, figure)
    if trials.empty:
        raise ConfigError(f"there is no trial with the figure {figure} to draw.")
    measured = trials[np.isfinite(trials[figure])]
    counts = sorted(measured["chips"].unique())
    ax, several = one(ax), len(counts) > 1
    for place, method in enumerate(trials["method"].unique()):
        color = f"#{OKABE_ITO[place % len(OKABE_ITO)]}"
        scores = measured[measured["method"] == method].groupby("chips")[figure]
        mean, spread = scores.mean(), scores.std().fillna(0.0)  # no spread of a single seed
        if not several:
            ax.barh(place, mean, xerr=spread, color=color, label=method)
            continue
        ax.plot(mean.index, mean, marker=_MARKERS[place % len(_MARKERS)], color=color, label=method)
        ax.fill_between(mean.index, mean - spread, mean + spread, color=color, alpha=0.2, linewidth=0)
    if several:
        ax.set(xscale="log", xlabel="labelled chips", ylabel=figure)
        ax.set_xticks(counts, [f"{count:,}" for count in counts])
        ax.minorticks_off()
        ax.legend()
    else:
        ax.set_yticks(range(trials["method"].nunique()), trials["method"].unique())
        ax.invert_yaxis()
        ax.set_xlabel(figure)
    ax.grid(alpha=0.3)
    return ax


def _trials(results: str | Path | Trials, figure: str) -> pd.DataFrame:
    """Method, labelled chips and metric of each trial, from results.csv of a comparison or as they are given."""
    if not isinstance(results, (str, Path)):
        return pd.DataFrame(results, columns=["method", "chips", figure])
    path = Path(results) / "results.csv"
    if not path.is_file():
        raise ConfigError(f"{results} has no results.csv: name the folder that 'prithvi compare' wrote.")
    try:
        table = pd.read_csv(path, converters={"method": str})
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as a table ({first_line(error)}).") from error
    columns = set(table.columns) - {"method", "fraction", "seed", "chips", "seconds"}
    if missing := {"method", "chips"} - set(table.columns):
        raise ConfigError(f"{path} has no column {min(missing)}, as those of 'prithvi compare' have.")
    if figure not in columns:
        raise ConfigError(f"{path} has no figure {figure!r}: {nearest(figure, columns)}")
    if not pd.api.types.is_numeric_dtype(table[figure]):
        raise ConfigError(f"{path}: {figure} holds words where numbers are.")
    return table
