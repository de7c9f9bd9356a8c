"""Images that prithvi fill wrote say their day, so that they open as a series again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr

from prithvi.errors import SceneError
from prithvi.mapping.series_files import fill_series
from prithvi.scenes import open_scene
from tests.conftest import Answer

Write = Callable[..., Path]


@pytest.fixture
def files(write_tif: Write, six_bands: np.ndarray) -> list[Path]:
    first = six_bands[:, :64, :64].copy()
    first[:, 20:40, 30:50] = -9999
    return [write_tif(first, "a.tif", nodata=-9999), write_tif(six_bands[:, :64, 4:68], "b.tif", nodata=-9999)]


@pytest.mark.parametrize(
    ("dates", "names"),
    [
        (["2022-05-17", "2022-05-01"], ["2022-05-01", "2022-05-17"]),
        (["2022-05-01T10:45:00", "2022-05-01T11:00:30"], ["2022-05-01T104500", "2022-05-01T110030"]),
    ],
)
def test_filled_images_open_as_the_series_they_are(
    files: list[Path], tmp_path: Path, dates: list[str], names: list[str]
) -> None:
    """Two of one day, as of a morning's two satellites, say the time too."""
    steps = [
        open_scene(path).assign_coords(time=[np.datetime64(date, "ns")])
        for path, date in zip(files, dates, strict=True)
    ]
    series = xr.concat(steps, "time").sortby("time")
    made = fill_series(series, tmp_path / "filled", "nearest")
    assert [path.stem for path in made.paths] == names
    again = open_scene(made.paths[::-1])
    assert again["time"].values.tolist() == series["time"].values.tolist()
    known = np.isfinite(series.values) & (series.values != -9999)
    assert np.array_equal(again.values[known], series.values[known])
    one = open_scene(made.paths[1])
    assert one["time"].values.astype("datetime64[D]") == series["time"].values[1:].astype("datetime64[D]")


def test_the_command_line_knows_their_days(
    files: list[Path], tmp_path: Path, model_folder: Path, prithvi: Callable[..., Answer]
) -> None:
    filled = tmp_path / "filled"
    days = ("--date", "2022-05-01", "--date", "2022-05-17")
    assert prithvi("fill", "--method", "nearest", *files, *days, "-o", filled).code == 0
    images = [filled / "2022-05-01.tif", filled / "2022-05-17.tif"]
    answer = prithvi("composite", *images, "-o", tmp_path / "month")
    assert answer.code == 0, answer.err
    assert (tmp_path / "month" / "2022-05-01_2022-05-17.tif").is_file()
    answer = prithvi("map", model_folder, images[1], "-o", tmp_path / "maps")
    assert answer.code == 0, answer.err
    assert '"2022-05-17T00:00:00Z"' in (tmp_path / "maps" / "2022-05-17.json").read_text()
    answer = prithvi("map", model_folder, images[1], "-o", tmp_path / "other", "--date", "2022-05-18")
    assert answer.code == 2
    assert "2022-05-17.tif is of 2022-05-17, and 2022-05-18 was given as its date" in answer.err


def test_a_tag_that_is_no_day_says_nothing(files: list[Path]) -> None:
    for path in files:
        with rasterio.open(path, "r+") as raster:
            raster.update_tags(PRITHVI_DATE="soon")
    with pytest.raises(SceneError, match=r"of the same date \(unknown\): give the date of each"):
        open_scene(files)
