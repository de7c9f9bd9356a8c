"""What `--resume` goes on with is the same run: which plane is which date, nodata, the order in a file, a function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr

from prithvi.errors import ConfigError
from prithvi.mapping import composite_series, fill_series
from prithvi.scenes import open_scene
from tests.conftest import Answer

Cli = Callable[..., Answer]
DAYS = ["2022-05-01", "2022-05-09", "2022-05-17"]


@pytest.fixture
def files(write_tif, six_bands: np.ndarray) -> list[Path]:  # type: ignore[no-untyped-def]
    """Three dates of 40 x 40 pixels, each with a hole of its own."""
    made = []
    for number in range(3):
        pixels = six_bands[:, :40, 40 * number : 40 * number + 40].copy()
        pixels[:, 5 * number : 5 * number + 9, 9:20] = -9999
        made.append(write_tif(pixels, f"{number}.tif", nodata=-9999))
    return made


def pixels_of(path: Path) -> np.ndarray:
    if path.suffix == ".zarr":
        return np.asarray(xr.open_zarr(path, mask_and_scale=False)["image"].values)
    found = []
    for file in sorted(path.glob("*.tif")):
        with rasterio.open(file) as raster:
            found.append(raster.read())
    return np.concatenate(found)


@pytest.mark.parametrize("verb", ["files", "cube", "composite"])
@pytest.mark.parametrize("changed", ["dates", "nodata"])
def test_another_run_is_begun_anew(verb: str, changed: str, files: list[Path], prithvi: Cli, tmp_path: Path) -> None:
    begin = ["composite", "--every", "8d"] if verb == "composite" else ["fill", "--method", "linear"]
    dates = [word for day in DAYS for word in ("--date", day)]
    swapped = [word for day in (DAYS[1], DAYS[0], DAYS[2]) for word in ("--date", day)]
    with rasterio.open(files[0]) as raster:
        common = int(np.bincount(raster.read(1)[raster.read(1) > 0]).argmax())
    words = {"dates": swapped, "nodata": [*dates, "--nodata", str(common)]}[changed]
    old, new = (tmp_path / f"{name}{'.zarr' if verb == 'cube' else ''}" for name in ("old", "new"))
    for out, asked, more in ((old, dates, []), (old, words, ["--resume"]), (new, words, [])):
        answer = prithvi(*begin, *files, *asked, "--sensor", "hls-s30", "-o", out, *more)
        assert answer.code == 0, answer.err
        if out == old and not more:
            first = pixels_of(old)
    np.testing.assert_array_equal(pixels_of(old), pixels_of(new))
    assert not np.array_equal(first, pixels_of(old))


def test_a_function_is_gone_on_with_only_if_it_says_what_it_is(files: list[Path], tmp_path: Path) -> None:
    series = open_scene(files, sensor="hls-s30", dates=DAYS)

    def make(value: float) -> Any:
        def constant(image: Any, known: Any, times: Any, place: Any) -> Any:
            return np.where(known, image, np.float32(value))

        return constant

    fill_series(series, tmp_path, make(100), uncertainty=False)
    with pytest.raises(ConfigError, match=r"by the same function .*leave resume out, or give it an attribute"):
        fill_series(series, tmp_path, make(900), uncertainty=False, resume=True)
    for value in (100, 900):
        function = make(value)
        function.facts = {"value": value}
        fill_series(series, tmp_path, function, uncertainty=False, resume=True)
        with rasterio.open(tmp_path / f"{DAYS[0]}.tif") as raster:
            assert (raster.read()[:, :9, 9:20] == value).all()


def test_a_cube_whose_record_is_empty_is_begun_anew(files: list[Path], tmp_path: Path) -> None:
    """As a kill leaves it, between making the file and writing into it."""
    series, work = open_scene(files, sensor="hls-s30", dates=DAYS), tmp_path / ".filled.zarr.partial"
    work.mkdir()
    (work / "run.json").write_text("", encoding="utf-8")
    fill_series(series, tmp_path / "filled.zarr", "linear", resume=True)
    assert xr.open_zarr(tmp_path / "filled.zarr")["image"].sizes["time"] == 3


def test_dates_before_the_first_period_are_told(files: list[Path], tmp_path: Path) -> None:
    series = open_scene(files, sensor="hls-s30", dates=DAYS)
    told = composite_series(series, tmp_path, every=8, start="2022-05-08").notes
    assert "No period holds 2022-05-01: the first begins on 2022-05-08 (start=, --start)." in told
