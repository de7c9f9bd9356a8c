"""Windows with gaps are what the filling of a series takes its time for, and what its progress counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from prithvi.mapping import fill_series
from prithvi.mapping.gap_progress import STEPS
from tests.mapping.test_asked_dates import made


@pytest.mark.parametrize("masked", [False, True])
def test_progress_is_the_share_of_windows_with_gaps(masked: bool, tmp_path: Path) -> None:
    """All gaps lie in the last 8 of 40 rows: when four of five rows of windows are done, next to nothing is."""
    series = made([0, 5, 11, 20], clouds=0.0)
    clear = xr.DataArray(np.ones((4, 40, 40), bool), dims=("time", "y", "x"))
    clear[1:3, 32:] = False
    seen: list[tuple[int, int]] = []
    given = {"clear": clear} if masked else {}
    fill_series(
        series if masked else series.where(clear), tmp_path, "linear", window=8, stride=8, uncertainty=False,
        progress=lambda *at: seen.append(at), **given,
    )  # fmt: skip
    assert {whole for _, whole in seen} == {STEPS}
    done = list(dict.fromkeys(at for at, _ in seen))
    assert done == sorted(done)
    assert done[-1] == STEPS
    assert len(done) == 1 + 25  # before the first, and after each window
    # Ten windows with a gap in a date, and 25 that are read.
    assert done[20] == pytest.approx(STEPS * 20 * 0.02 / (25 * 0.02 + 10), abs=2)


def test_days_without_observation_count_whole_and_finished_dates_are_done(tmp_path: Path) -> None:
    series = made([0, 40], clouds=0.0)
    options = {"window": 20, "stride": 20, "uncertainty": False, "every": "8d", "resume": True}
    seen: list[int] = []
    fill_series(series, tmp_path, "linear", progress=lambda done, _: seen.append(done), **options)  # type: ignore[arg-type]
    # Six days are two passes of four windows each: three and one days of them are filled whole.
    assert list(dict.fromkeys(seen))[4] == pytest.approx(STEPS * (4 * 3.02) / (4 * 3.02 + 4 * 1.02), abs=2)
    for path in tmp_path.glob("2022-06-0[2-9]*"):
        path.unlink()
    again: list[int] = []
    fill_series(series, tmp_path, "linear", progress=lambda done, _: again.append(done), **options)  # type: ignore[arg-type]
    assert again[0] == list(dict.fromkeys(seen))[4]  # the first pass was there
    assert again[-1] == seen[-1] == STEPS
