"""How far the filling of a series is: by windows with gaps, since those without cost next to nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from prithvi.mapping.engine import Progress
from prithvi.mapping.window_filling import Turn
from prithvi.scenes.pixels import source_of
from prithvi.windows import WindowPlan

WITHOUT_GAPS = 0.02
"""What a window without gaps costs, as a share of one with gaps in a date: it is read and written all the same."""
STEPS = 100_000
"""The whole, as it is reported."""


def by_gaps(
    progress: Progress, series: xr.DataArray, clear: xr.DataArray | None, turns: Sequence[Turn], plan: WindowPlan
) -> Progress:
    """What takes the windows done of all turns, and reports the share of the work that they are.

    One band of every date that is filled is read for it, and the masks; not of a lazy series that is calculated, of
    which that may be as much work as the filling.

    Args:
        progress: what is reported to.
        series: (time, band, y, x), before clouds became holes.
        clear: (time, y, x) 1 where clear; None without masks.
        turns: the passes over it. Dates that it has not are gaps as a whole.
        plan: the windows.

    """
    if source_of(series) is None and series.chunks is not None:
        return progress
    every = np.full(len(plan.rows), len(plan.columns))
    costs: list[npt.NDArray[np.float64]] = []
    for turn in turns:
        cost = WITHOUT_GAPS * every
        for place in (turn.dates_read[date] for date in turn.dates_filled):
            cost = cost + (_gaps(series, clear, place, plan) if place < series.sizes["time"] else every)
        costs.append(cost)
    share = np.cumsum([0.0, *np.concatenate(costs)])
    windows = len(plan.columns) * np.arange(len(share))

    def report(done: int, whole: int) -> None:
        progress(STEPS if done >= whole else int(STEPS * np.interp(done, windows, share) / share[-1]), STEPS)

    return report


def _gaps(series: xr.DataArray, clear: xr.DataArray | None, date: int, plan: WindowPlan) -> npt.NDArray[np.int64]:
    """(rows of windows,) how many windows of each have gaps in a date."""
    found = []
    for row in plan.rows:
        rows = slice(row, row + plan.window)
        gaps = np.isnan(series[date, 0, rows].values).any(axis=0)
        if clear is not None:
            gaps |= (clear[date, rows].values != 1).any(axis=0)
        found.append(sum(bool(gaps[column : column + plan.window].any()) for column in plan.columns))
    return np.array(found)
