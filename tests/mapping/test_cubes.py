"""A filled series as one Zarr cube: the values of the files, where and when they are, and whole or not there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr

from prithvi.errors import OutputError, SceneError
from prithvi.files import put_folder
from prithvi.mapping import fill_series
from prithvi.scenes import open_scene
from tests.conftest import Answer
from tests.mapping.test_asked_dates import files_of, made

Cli = Callable[..., Answer]
REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_cube_holds_what_the_files_hold(tmp_path: Path) -> None:
    """Seven dates are two passes; a day on which nothing was observed is among them."""
    series = made([0, 5, 11, 20, 26, 40])
    options = {"only": series["time"].values, "on": ["2022-05-15"], "window": 24}
    files = fill_series(series, tmp_path / "files", "linear", **options)  # type: ignore[arg-type]
    cube = fill_series(series, tmp_path / "cube.zarr", "linear", **options)  # type: ignore[arg-type]
    assert cube.paths == (tmp_path / "cube.zarr",)
    assert (cube.observed, cube.filled, cube.empty) == (files.observed, files.filled, files.empty)
    assert cube.dates == files.dates == [path.stem for path in files.paths]
    stored = xr.open_zarr(tmp_path / "cube.zarr", mask_and_scale=False, decode_coords="all")
    assert {name: str(array.dtype) for name, array in stored.data_vars.items()} == {
        "image": "int16", "uncertainty": "int16", "filled": "uint8",
    }  # fmt: skip
    assert stored["image"].dims == ("time", "band", "y", "x")
    for date, path in enumerate(files.paths):
        for name, end in (("image", ""), ("filled", "_filled"), ("uncertainty", "_uncertainty")):
            with rasterio.open(path.with_name(f"{path.stem}{end}.tif")) as raster:
                np.testing.assert_array_equal(stored[name].values[date], raster.read().squeeze())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cube.zarr", "files"]


def test_plain_xarray_opens_it_in_its_place_and_time(tmp_path: Path) -> None:
    series = made([0, 5, 11]).assign_coords(time=made([0, 5, 11])["time"] + np.timedelta64(10 * 3600 + 61, "s"))
    fill_series(series, tmp_path / "cube.zarr", "linear")
    cube = xr.open_zarr(tmp_path / "cube.zarr", decode_coords="all")
    for name in ("time", "band", "y", "x"):
        np.testing.assert_array_equal(cube[name].values, series[name].values)
    known = np.isfinite(series.values)
    np.testing.assert_allclose(cube["image"].values[known], series.values[known] * 1e-4, rtol=1e-6)
    assert (cube["uncertainty"].values[known] == 0).all()
    assert cube["filled"].attrs["flag_meanings"] == "observed filled nothing"
    np.testing.assert_array_equal(cube["filled"].values == 0, known.all(axis=1))
    assert cube.rio.crs.to_epsg() == 32630
    assert cube["image"].chunksizes["time"] == (1, 1, 1)
    attrs = xr.open_zarr(tmp_path / "cube.zarr").attrs
    assert [each["name"] for each in attrs["zarr_conventions"]] == ["proj", "spatial"]
    assert attrs["proj:code"] == "EPSG:32630"
    assert attrs["spatial:transform"] == [30.0, 0.0, 600_000.0, 0.0, -30.0, 4_200_000.0]
    assert attrs["spatial:shape"] == [40, 40]
    assert attrs["spatial:bbox"] == [600_000.0, 4_198_800.0, 601_200.0, 4_200_000.0]
    assert attrs["PRITHVI_MODEL"] == "linear"
    with rasterio.open(f'ZARR:"{tmp_path / "cube.zarr"}":/image') as gdal:  # a band for each date and band
        stored = xr.open_zarr(tmp_path / "cube.zarr", mask_and_scale=False)["image"].values
        np.testing.assert_array_equal(gdal.read(), stored.reshape(18, 40, 40))


def test_it_is_a_scene_again(tmp_path: Path) -> None:
    series = made([0, 5, 11])
    fill_series(series, tmp_path / "cube.zarr", "linear", uncertainty=False)
    cube = xr.open_zarr(tmp_path / "cube.zarr", decode_coords="all")
    assert "uncertainty" not in cube
    scene = open_scene(cube["image"])
    assert scene.rio.crs.to_epsg() == 32630
    again = fill_series(scene, tmp_path / "again.zarr", "linear", uncertainty=False)
    assert again.filled == 0
    both = [xr.open_zarr(tmp_path / name, mask_and_scale=False)["image"] for name in ("cube.zarr", "again.zarr")]
    np.testing.assert_array_equal(both[0].values, both[1].values)


def test_an_older_store_stays_until_the_new_one_is_whole_and_other_things_are_left_alone(tmp_path: Path) -> None:
    series, path, calls = made([0, 5, 11, 20, 26, 40]), tmp_path / "cube.zarr", 0
    fill_series(series, path, "nearest")

    def content() -> dict[str, bytes]:
        return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}

    before = content()

    def fails(image, known, times, where):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += 1
        if calls == 140:
            raise SceneError("the power is gone.")
        return np.where(known, image, 700).astype(np.float32)

    fails.facts = {"value": 700}  # type: ignore[attr-defined]
    with pytest.raises(SceneError, match=r"The first \d+ rows are kept: --resume goes on from there"):
        fill_series(series, path, fails, window=16)
    assert content() == before
    first = calls
    result = fill_series(series, path, fails, window=16, resume=True)
    assert result.empty == 0
    assert calls - first < first  # rows and dates that were finished are not filled again
    after = content()
    assert after != before
    assert [entry.name for entry in tmp_path.iterdir()] == ["cube.zarr"]
    calls = 1000
    fill_series(series, path, fails, window=16, resume=True)
    assert (calls, content()) == (1000, after)  # it is there already
    fill_series(series, tmp_path / "whole.zarr", fails, window=16)
    path = tmp_path / "whole.zarr"
    assert {name: data for name, data in content().items() if name[0] != "."} == {
        name: data for name, data in after.items() if name[0] != "."
    }
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"mine\.zarr is there and is no Zarr store: choose another name"):
        fill_series(series, tmp_path / "mine.zarr", "nearest")
    assert (tmp_path / "mine.zarr" / "notes.txt").read_text() == "mine"


def test_nobody_goes_on_from_the_store_that_was_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill just after the stores changed places leaves the earlier one among what a run goes on from."""
    series, path = made([0, 5, 11, 20]), tmp_path / "cube.zarr"
    fill_series(series, tmp_path / "right.zarr", "linear")
    fill_series(series, path, "nearest")
    with monkeypatch.context() as patch:

        def killed(*folders: Path) -> None:
            put_folder(*folders)
            raise KeyboardInterrupt

        patch.setattr("prithvi.mapping.cubes.put_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            fill_series(series, path, "linear", resume=True)
    shutil.rmtree(path)
    fill_series(series, path, "linear", resume=True)
    found, right = (xr.open_zarr(tmp_path / name)["image"].values for name in ("cube.zarr", "right.zarr"))
    np.testing.assert_array_equal(found, right)


def test_what_cannot_be_reflectance_is_told(tmp_path: Path) -> None:
    series = made([0, 5, 11], clouds=0.0)
    series[1, 2, 3, 4:7] = 30_000
    result = fill_series(series, tmp_path / "cube.zarr", "linear")
    assert result.filled == 3
    told = xr.open_zarr(tmp_path / "cube.zarr").attrs["PRITHVI_LEFT_OUT"]
    assert told.startswith("2022-05-06: 3 pixels hold 30000, which cannot be reflectance")
    assert result.notes == (told,)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(write_tif: Callable[..., Path], tmp_path: Path) -> None:
    words = ["fill", "--method", "linear", *files_of(made([0, 5, 10, 20, 30, 40]), write_tif)]
    words += ["--window", "24", "--stride", "8"]
    command = [sys.executable, str(REPOSITORY / "tests" / "kill_runs.py"), tmp_path / "work", 2, 3, *words]
    path = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "KILLED_OUT": "out/cube.zarr"}
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=os.environ | path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["code"] == 0
    assert "cube.zarr/.zmetadata" in found["files"]
    assert not any(name.startswith(".") for name in found["files"])
    assert [(each["code"], each["differ"]) for each in found["runs"]] == [(0, [])] * 2


def test_a_report_is_of_files(prithvi: Cli, write_tif: Callable[..., Path], tmp_path: Path) -> None:
    words = ["fill", "--method", "linear", *files_of(made([0, 5]), write_tif), "-o", tmp_path / "c.zarr"]
    answer = prithvi(*words, "--report", tmp_path / "r.html")
    assert (answer.code, "leave one of the two out" in answer.err) == (2, True)
    answer = prithvi(*words)
    assert answer.code == 0, answer.err
    assert "c.zarr: 2 dates; " in answer.out
