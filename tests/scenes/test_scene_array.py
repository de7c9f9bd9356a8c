"""Selections of a scene are selections of its files: lazy, exact, and known to `source_of`."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from prithvi.scenes import open_scene, pixels
from prithvi.scenes.pixels import source_of

Write = Callable[..., Path]


@pytest.fixture
def scene(write_tif: Write, six_bands: np.ndarray) -> xr.DataArray:
    return open_scene(write_tif(six_bands, tiled=True, blockxsize=64, blockysize=64), dates=["2022-05-01"])


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], tuple[int, int, int, int]]]:
    """Bands and window (column, row, width, height) of each read of a file."""
    found: list[tuple[list[int], tuple[int, int, int, int]]] = []
    read = pixels.read_window

    def spy(path: str, planes, window):  # type: ignore[no-untyped-def]
        found.append(([plane.index for plane in planes], window.flatten()))
        return read(path, planes, window)

    monkeypatch.setattr(pixels, "read_window", spy)
    return found


def test_chained_selections_read_that_part_once(scene: xr.DataArray, reads: list, six_bands: np.ndarray) -> None:
    part = scene.isel(band=[3, 1]).isel(y=slice(100, 200)).sel(band=["green"]).isel(x=slice(10, 300))[..., ::-4, :]
    assert source_of(part) is not None
    assert reads == []
    np.testing.assert_array_equal(part.values[0, 0], six_bands[1, 100:200, 10:300][::-4])
    assert reads == [([2], (10, 103, 290, 97))]


@pytest.mark.parametrize(
    "chosen",
    [
        {"y": slice(None, None, -1)}, {"x": [5, 1, 200]}, {"y": [4, 4, 300], "x": [1, 2, 3]}, {"y": slice(0, 0)},
        {"y": np.arange(512) % 3 == 0}, {"time": [0, 0], "band": slice(0, None, 2)}, {"band": -1}, {"time": 0},
        {"y": xr.DataArray([1, 400, 3], dims="place"), "x": xr.DataArray([3, 2, 1], dims="place")},
    ],
)  # fmt: skip
def test_every_selection_is_that_of_the_pixels(chosen: dict, scene: xr.DataArray) -> None:
    xr.testing.assert_identical(scene.isel(chosen).compute(), scene.compute().isel(chosen))


def test_a_selection_keeps_its_files_through_pickles_and_copies(scene: xr.DataArray) -> None:
    part = scene.isel(y=slice(3, 90, 2), band=[5, 0])
    for same in (pickle.loads(pickle.dumps(part)), part.copy(), part.rio.write_crs("EPSG:32631"), part.astype("f4")):
        assert source_of(same) is not None
        np.testing.assert_array_equal(same.values, part.values)


def test_what_was_calculated_is_not_taken_for_the_files(scene: xr.DataArray) -> None:
    changed = scene.copy()
    changed[{"y": 0}] = 5
    for other in (scene + 1, scene.where(scene > 5), xr.concat([scene, scene], "time"), scene.compute(), changed):
        assert source_of(other) is None
        assert source_of(other.isel(y=slice(0, 9))) is None
    assert (changed.isel(y=slice(0, 2)).values[0, :, 0] == 5).all()
    assert source_of(scene) is not None
