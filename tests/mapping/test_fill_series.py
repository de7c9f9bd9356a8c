"""A series filled: observed pixels as they were, gaps by the method that was asked for, each marked for what it is."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import xarray as xr
from affine import Affine

from prithvi.bands import PRITHVI_BANDS
from prithvi.errors import ConfigError, SceneError
from prithvi.hls import Granule, good
from prithvi.mapping import fill, fill_series
from prithvi.mapping.masks import clear_of
from prithvi.mapping.methods import linear_in_time, nearest_date
from prithvi.modelio import save_pretrained
from prithvi.models import GapFiller, build
from prithvi.scenes import open_scene
from tests.conftest import Answer
from tests.synthetic_hls import Archive

Cli = Callable[..., Answer]
REPOSITORY = Path(__file__).resolve().parents[2]
DAYS = ("2020-05-01", "2020-05-11", "2020-05-31", "2020-06-20")


@pytest.fixture
def series(six_bands: np.ndarray, write_tif, tmp_path: Path) -> tuple[list[Path], list[Path], np.ndarray, np.ndarray]:  # type: ignore[no-untyped-def]
    """Four dates of 70 x 90 pixels, a cloud on each, a corner of the third without data: files, masks, truth, known."""
    base = six_bands[:, 100:170, 330:420]
    truth = np.stack([np.clip(base * factor, 1, 9000) for factor in (1.0, 0.9, 1.05, 0.95)]).round().astype(np.int16)
    y, x = np.mgrid[:70, :90]
    known = np.stack([(y - 15 * n - 10) ** 2 + (x - 20 * n - 15) ** 2 > 150 for n in range(4)])
    known[2, 60:, 80:] = False
    files, masks = [], []
    for number, pixels in enumerate(truth):
        stored = pixels.copy()
        if number == 2:
            stored[:, 60:, 80:] = -9999
        files.append(write_tif(stored, f"s{number}.tif", nodata=-9999))
        cloud = (~known[number]).astype(np.uint8)
        masks.append(write_tif(cloud[None], f"m{number}.tif", names=None, scale=None))
    return files, masks, truth, known


def run(prithvi: Cli, series: tuple[list[Path], ...], out: Path, *more: object) -> Answer:
    """The files out of order, which changes nothing."""
    order = (2, 0, 3, 1)
    days, masks = [DAYS[n] for n in order], [series[1][n] for n in order]
    words = [word for day in days for word in ("--date", day)] + [word for m in masks for word in ("--clouds", m)]
    return prithvi(
        "fill", *more[:1], *(series[0][n] for n in order), "-o", out, "--sensor", "hls-s30", *words, *more[1:]
    )


def read(out: Path) -> tuple[np.ndarray, np.ndarray]:
    values, marks = [], []
    for day in DAYS:
        with rasterio.open(out / f"{day}.tif") as raster, rasterio.open(out / f"{day}_filled.tif") as mark:
            assert raster.descriptions == PRITHVI_BANDS
            assert (raster.nodata, raster.scales[0]) == (-9999, 1e-4)
            assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            values.append(raster.read())
            marks.append(mark.read(1))
    return np.stack(values), np.stack(marks)


@pytest.mark.parametrize(("method", "function"), [("nearest", nearest_date), ("linear", linear_in_time)])
def test_methods_fill_what_they_fill_in_memory(  # type: ignore[no-untyped-def]
    method: str, function, prithvi: Cli, series, tmp_path: Path
) -> None:
    _, _, truth, known = series
    answer = run(prithvi, series, tmp_path / "out", f"--method={method}", "--window", 32)
    assert answer.code == 0, answer.err
    values, marks = read(tmp_path / "out")
    np.testing.assert_array_equal(marks, np.where(known, 0, 1))
    np.testing.assert_array_equal(values.transpose(0, 2, 3, 1)[known], truth.transpose(0, 2, 3, 1)[known])
    days = np.array([0.0, 10.0, 30.0, 50.0])
    expected = function(truth.transpose(1, 0, 2, 3).astype(np.float64), known, days).transpose(1, 0, 2, 3)
    assert np.abs(values - expected).max() <= 0.51  # rounded to whole numbers
    assert f"{known.mean():.1%} observed" in answer.out


@pytest.mark.slow
def test_filling_and_a_model_are_nearer_than_the_nearest_date(prithvi: Cli, series, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    _, _, truth, known = series
    errors = {}
    for name, words in (
        ("nearest", ["--method=nearest"]),
        ("regression", ["--method=regression", "--window", 96]),
        ("filling", ["--method=filling", "--window", 96]),
        ("local", ["--method=local_regression", "--window", 96]),
        ("model", ["prithvi_hls_tiny", "--window", 64]),
    ):
        answer = run(prithvi, series, tmp_path / name, *words)
        assert answer.code == 0, answer.err
        values, marks = read(tmp_path / name)
        np.testing.assert_array_equal(values.transpose(0, 2, 3, 1)[known], truth.transpose(0, 2, 3, 1)[known])
        gaps = marks == 1
        assert gaps.sum() > 0.9 * (~known).sum()
        difference = np.abs(values.astype(float) - truth).transpose(0, 2, 3, 1)
        errors[name] = difference[gaps].mean()
    assert errors["filling"] < 0.5 * errors["nearest"]
    assert errors["model"] < 0.5 * errors["nearest"]
    assert errors["local"] < 1.1 * errors["filling"]
    assert errors["regression"] < errors["nearest"]


def test_where_no_date_has_anything_nothing_is_said(prithvi: Cli, write_tif, six_bands, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    files = []
    for number in range(2):
        pixels = six_bands[:, :96, 330:426].copy()
        pixels[:, :48, :48] = -9999
        files.append(write_tif(pixels, f"s{number}.tif", nodata=-9999))
    words = ["--sensor", "hls-s30", "--date", DAYS[0], "--date", DAYS[1]]
    answer = prithvi("fill", "--method", "nearest", *files, "-o", tmp_path / "out", *words, "--window", 16)
    assert answer.code == 0, answer.err
    with rasterio.open(tmp_path / "out" / f"{DAYS[0]}.tif") as raster:
        values = raster.read()
    assert (values[:, :48, :48] == -9999).all()
    assert (values[:, 48:] != -9999).all()
    with rasterio.open(tmp_path / "out" / f"{DAYS[0]}_filled.tif") as raster:
        assert (raster.read(1)[:48, :48] == 255).all()


def test_masks_in_degrees_are_compared_at_their_far_corner(write_tif, six_bands: np.ndarray, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """5 pixels over 512 are less than a millionth of a degree a pixel; noise in the last digits is none."""
    at = Affine(9e-5, 0, -1.9, 0, -9e-5, 37.9)
    place = {"crs": "EPSG:4326", "transform": at}
    files = [write_tif(six_bands, f"{day}.tif", nodata=-9999, **place) for day in DAYS[:2]]
    series = open_scene(files, sensor="hls-s30", dates=DAYS[:2])
    cloud = np.zeros((1, 512, 512), np.uint8)
    cloud[0, 40:80, :50] = 1
    for factor, shift, told in ((1, 1e-9, None), (1 + 1e-10, 0, None), (1 + 5 / 512, 0, "grid"), (1, 9e-7, "grid")):
        moved = Affine.translation(shift, 0) @ at @ Affine.scale(factor)
        masks = [
            write_tif(cloud, f"m{number}.tif", names=None, scale=None, crs="EPSG:4326", transform=turn)
            for number, turn in enumerate((at, moved))
        ]
        if told is None:
            clear = clear_of(masks, series)
            assert clear.sizes == {"time": 2, "y": 512, "x": 512}
            np.testing.assert_array_equal(clear.values, np.broadcast_to(cloud == 0, (2, 512, 512)))
        else:
            with pytest.raises(SceneError, match=r"m1\.tif .*do not lie on one grid"):
                clear_of(masks, series)


def test_what_does_not_fit_is_one_sentence(prithvi: Cli, series, write_tif, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    files, masks, *_ = series
    out = tmp_path / "out"

    def refused(told: str, *arguments: object) -> None:
        answer = prithvi("fill", *arguments, "-o", out, "--sensor", "hls-s30")
        assert answer.code == 2, answer
        assert told in answer.err, answer.err

    two = ["--date", DAYS[0], "--date", DAYS[1]]
    refused("there is no method 'linar': did you mean linear", "--method", "linar", *files[:2], *two)
    refused("has 1 date, and a gap is filled from others", "--method", "linear", files[0], *two[:2])
    refused("are of the same date (2020-05-01)", "--method", "linear", *files[:2], *two[:2], *two[:2])
    refused("1 cloud mask for 2 dates", "--method", "linear", *files[:2], *two, "--clouds", masks[0])
    other = write_tif(np.zeros((1, 70, 80), np.uint8), "other.tif", names=None, scale=None)
    refused("do not lie on one grid", "--method", "linear", *files[:2], *two, "--clouds", masks[0], "--clouds", other)
    refused("no series was given", "prithvi_hls_tiny")
    refused("there is no model, file, folder or hub id 'prithvi_hls_tyny'", "prithvi_hls_tyny", *files[:2], *two)
    refused("there is no file nosuch.tif", "nosuch.tif", files[0], *two)
    assert not list(out.glob("*.tif"))


def test_granules_bring_their_fmask(prithvi: Cli, archive: Archive, tmp_path: Path) -> None:
    folders = sorted(path.parent for path in archive.root.rglob("*T31UDS*.Fmask.tif"))[:3]
    answer = prithvi("fill", "--method", "nearest", *folders, "-o", tmp_path / "out")
    assert answer.code == 0, answer.err
    assert "Fmask.tif, read as HLS Fmask: " in answer.err
    hidden = 0
    for folder in folders:
        granule = Granule.parse(folder.name)
        with (
            rasterio.open(tmp_path / "out" / f"{granule.time:%Y-%m-%d}_filled.tif") as marks,
            rasterio.open(folder / f"{folder.name}.Fmask.tif") as fmask,
        ):
            clear, state = good(fmask.read(1)), marks.read(1)
        assert (state[~clear] != 0).all()
        hidden += int((~clear).sum())
    assert hidden > 1000


@pytest.mark.slow
def test_without_a_model_the_best_method_fills_and_says_so(prithvi: Cli, series, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The same files as by its name, in Python as well; each mask is told once."""
    words = [*words_of(series), "--window", "96"]
    plain = prithvi("fill", *words, "-o", tmp_path / "plain")
    named = prithvi("fill", "--method", "local_regression", *words, "-o", tmp_path / "named")
    assert plain.code == named.code == 0, plain.err + named.err
    assert "Filling by local_regression; a model before the series, or --method, is another way." in plain.err
    assert "Filling by" not in named.err
    assert plain.err.count("read as") == len(DAYS)
    opened = open_scene(series[0], sensor="hls-s30", dates=DAYS)
    by_default = fill_series(opened, tmp_path / "python", masks=series[1], window=96)
    assert len(by_default.dates) == len(DAYS)
    for day in DAYS:
        for name in (f"{day}.tif", f"{day}_filled.tif", f"{day}_uncertainty.tif"):
            with rasterio.open(tmp_path / "plain" / name) as raster:
                values, tags = raster.read(), raster.tags()
            assert tags["PRITHVI_MODEL"] == "local_regression"
            for other in ("named", "python"):
                with rasterio.open(tmp_path / other / name) as raster:
                    np.testing.assert_array_equal(raster.read(), values)


def words_of(series: tuple[list[Path], ...]) -> list[str]:
    """The series as arguments."""
    masks = [str(word) for mask in series[1] for word in ("--clouds", mask)]
    dates = [word for day in DAYS for word in ("--date", day)]
    return [*map(str, series[0]), "--sensor", "hls-s30", *dates, *masks]


@pytest.mark.slow
def test_every_file_says_where_it_comes_from(prithvi: Cli, series, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The model by its weights, the files and masks, and what was typed, but not that it was gone on with."""
    files, masks, *_ = series
    words = ["prithvi_hls_tiny", *words_of(series), "--window", "64", "--stride", "64", "-o", str(tmp_path / "out")]
    answer = prithvi("fill", *words, "--resume")
    assert answer.code == 0, answer.err
    weights = (REPOSITORY / "prithvi" / "weights" / "prithvi_hls_tiny" / "model.safetensors").read_bytes()
    for day in DAYS:
        for name in (f"{day}.tif", f"{day}_filled.tif", f"{day}_uncertainty.tif"):
            with rasterio.open(tmp_path / "out" / name) as raster:
                tags = raster.tags()
            assert tags["PRITHVI_MODEL"] == "prithvi_hls_tiny"
            assert tags["PRITHVI_WEIGHTS_SHA256"] == hashlib.sha256(weights).hexdigest()
            assert tags["PRITHVI_INPUT"] == ", ".join(map(str, [*files, *masks]))
            assert tags["PRITHVI_COMMAND"] == shlex.join(["prithvi", "fill", *words])
            assert tags["PRITHVI_SOFTWARE"].startswith("prithvi ")


def test_uncertainty_is_zero_where_observed_and_can_be_left_out(prithvi: Cli, series, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    words = ["--method=regression", "--window", 96]
    answer = run(prithvi, series, tmp_path / "with", *words)
    assert answer.code == 0, answer.err
    answer = run(prithvi, series, tmp_path / "without", *words, "--no-uncertainty")
    assert answer.code == 0, answer.err
    assert sorted(path.name for path in (tmp_path / "without").iterdir()) == sorted(
        name for day in DAYS for name in (f"{day}.tif", f"{day}_filled.tif")
    )
    for with_it, without in zip(read(tmp_path / "with"), read(tmp_path / "without"), strict=True):
        np.testing.assert_array_equal(with_it, without)
    _, marks = read(tmp_path / "with")
    for day, mark in zip(DAYS, marks, strict=True):
        with rasterio.open(tmp_path / "with" / f"{day}_uncertainty.tif") as raster:
            assert (raster.nodata, raster.scales[0], raster.descriptions) == (-9999, 1e-4, PRITHVI_BANDS)
            unsure = raster.read()
        assert (unsure[:, mark == 0] == 0).all()
        assert (unsure[:, mark == 1] > 0).all()
        assert (unsure[:, mark == 255] == -9999).all()


@pytest.mark.slow
def test_a_finished_run_is_not_done_again_and_another_is(prithvi: Cli, series, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "out"

    def times() -> list[int]:
        return [(out / f"{day}.tif").stat().st_mtime_ns for day in DAYS]

    assert run(prithvi, series, out, "--method=nearest").code == 0
    first = times()
    assert run(prithvi, series, out, "--method=nearest", "--resume").code == 0
    assert times() == first
    for number, more in enumerate((["--method=linear"], ["--method=linear", "--window", 32], ["--method=linear"])):
        answer = run(prithvi, series, out, *more, *(["--resume"] if number < 2 else []))
        assert answer.code == 0, answer.err
        assert all(new > old for new, old in zip(times(), first, strict=True))
        first = times()
    mask = series[1][0]
    os.utime(mask, ns=(1, 1))  # other clouds
    assert run(prithvi, series, out, "--method=linear", "--resume").code == 0
    assert times() != first


@pytest.mark.slow
def test_a_series_or_masks_of_other_values_are_filled_anew(series, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """In memory by their values, of files by these; a lazy series that is calculated is refused with the way out."""
    files, masks, _, known = series
    lazy = open_scene(files, sensor="hls-s30", dates=DAYS)

    def again(given: xr.DataArray, **more: object) -> bool:
        """Whether a run with `resume` writes the files anew."""
        before = (tmp_path / f"{DAYS[0]}.tif").stat().st_mtime_ns if (tmp_path / f"{DAYS[0]}.tif").exists() else 0
        fill_series(given, tmp_path, "nearest", resume=True, **more)  # type: ignore[arg-type]
        return (tmp_path / f"{DAYS[0]}.tif").stat().st_mtime_ns != before

    array = lazy.compute()
    assert again(array)
    assert not again(lazy.compute())
    assert again(array + 1)
    assert again(lazy)
    assert not again(lazy)
    os.utime(files[2], ns=(1, 1))  # one of several that the series does not name one by one
    assert again(open_scene(files, sensor="hls-s30", dates=DAYS))
    calculated = lazy.where(lazy["x"] > lazy["x"][3])
    with pytest.raises(ConfigError, match=r"leave resume out, or take it into memory \(\.compute\(\)\)\."):
        again(calculated)
    fill_series(calculated, tmp_path, "nearest")
    assert again(calculated.compute())
    clear = xr.DataArray(known, dims=("time", "y", "x"))
    assert again(lazy, clear=clear)
    assert not again(lazy, clear=clear.chunk())
    assert again(lazy, clear=clear[:, ::-1])
    of_files = clear_of(masks, lazy)
    inputs = [*files, *masks]
    assert again(lazy, clear=of_files, inputs=inputs)
    assert not again(lazy, clear=of_files, inputs=inputs)
    assert again(lazy, clear=of_files & clear[:, ::-1], inputs=inputs)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(
    series, write_tif, six_bands: np.ndarray, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    """Six dates are two turns: a kill comes in the first, between them, or in the second."""
    files, masks = [], []
    random = np.random.default_rng(0)
    for number in range(6):
        pixels = np.clip(six_bands[:, 100:164, 330:362] * (1 + 0.05 * number), 1, 9000).round().astype(np.int16)
        files.append(write_tif(pixels, f"d{number}.tif", nodata=-9999))
        cloud = np.kron(random.random((8, 4)) < 0.3, np.ones((8, 8))).astype(np.uint8)
        masks.append(write_tif(cloud[None], f"c{number}.tif", names=None, scale=None))
    words = ["fill", "--method", "filling", *files, "--sensor", "hls-s30", "--window", "32", "--stride", "16"]
    words += [word for number in range(6) for word in ("--date", f"2020-05-1{number}")]
    words += [word for mask in masks for word in ("--clouds", mask)]
    command = [sys.executable, str(REPOSITORY / "tests" / "kill_runs.py"), tmp_path / "work", 3, 7, *words]
    path = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=os.environ | path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["code"] == 0
    assert len(found["files"]) == 18
    assert len({round(each["at"], 3) for each in found["runs"]}) == 3
    assert any(each["left"] for each in found["runs"])  # something was there to go on from
    for each in found["runs"]:
        assert each["code"] == 0
        assert each["differ"] == []


def test_what_an_error_interrupts_goes_on_from_its_rows(series, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Rows that are finished are not filled again, and the answer is that of one run."""
    _, _, truth, known = series
    array = xr.DataArray(
        np.where(known[:, None], truth, np.nan).astype(np.float32), dims=("time", "band", "y", "x"),
        coords={"time": np.array(DAYS, "datetime64[ns]"), "band": list(PRITHVI_BANDS)},
        attrs={"gain": 1e-4, "source": "made here"},
    ).rio.write_crs("EPSG:32630")  # fmt: skip
    calls, stop_at = 0, 0

    def means(image, known, times, where):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise SceneError("the power is gone.")
        mean = np.where(known, image, 0).sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=0), 1)
        return np.where(known, image, mean)

    means.facts = {"is": "the mean of the other dates"}  # type: ignore[attr-defined]

    def made(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    fill_series(array, tmp_path / "whole", means, window=16)
    whole, calls, stop_at = calls, 0, calls * 4 // 5
    with pytest.raises(SceneError, match=r"The first \d+ rows are kept: --resume goes on from there"):
        fill_series(array, tmp_path / "parts", means, window=16)
    assert not list((tmp_path / "parts").glob("*.tif"))
    calls, stop_at, seen = 0, 0, []
    result = fill_series(array, tmp_path / "parts", means, window=16, resume=True, progress=lambda *at: seen.append(at))
    assert calls < 0.7 * whole
    assert made(tmp_path / "parts") == made(tmp_path / "whole")
    assert result.filled + result.observed + result.empty == known.size
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_first_and_last_dates_without_data_are_filled(prithvi: Cli, series, write_tif, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    files, *_ = series
    empty = [write_tif(np.full((6, 70, 90), -9999, np.int16), f"e{n}.tif", nodata=-9999) for n in range(2)]
    words = [word for day in DAYS for word in ("--date", day)]
    words = ["--method=nearest", empty[0], files[0], files[1], empty[1], "--sensor", "hls-s30", *words]
    answer = prithvi("fill", *words, "-o", tmp_path / "out")
    assert answer.code == 0, answer.err
    values, marks = read(tmp_path / "out")
    assert (marks[[0, 3]] == 1).all()
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[3], values[2])


def test_the_series_itself_is_not_written_over(prithvi: Cli, six_bands: np.ndarray, write_tif, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    files = [write_tif(six_bands[:, :64, 330:394], f"{day}.tif", nodata=-9999) for day in DAYS[:2]]
    before = files[0].read_bytes()
    words = ["--date", DAYS[0], "--date", DAYS[1], "--sensor", "hls-s30"]
    answer = prithvi("fill", "--method=nearest", *files, "-o", tmp_path, *words)
    assert answer.code == 2
    assert "is one of the inputs: choose another name or folder" in answer.err
    assert files[0].read_bytes() == before


@pytest.mark.slow
def test_a_gap_filler_fills_as_it_was_trained(prithvi: Cli, series, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A folder as `prithvi fit -c configs/cloud_gaps.yaml` leaves it: its dates, window and `touched`."""
    torch.manual_seed(0)
    mae = build("prithvi_hls_tiny", num_frames=2, img_size=32, embed_dim=32, depth=1, num_heads=2)
    folder = save_pretrained(mae, tmp_path / "model", {"gap filling": {"touched": "visible", "landmarks": 64}})
    _, _, truth, known = series
    answer = run(prithvi, series, tmp_path / "out", folder)
    assert answer.code == 0, answer.err
    array = xr.DataArray(np.where(known[:, None], truth, np.nan).astype(np.float32), dims=("time", "band", "y", "x"))
    array = array.assign_coords(time=np.array(DAYS, "datetime64[ns]"))
    # The same place as the files, without which the model is shown none.
    array = array.assign_coords(x=600_005 + 10.0 * np.arange(90), y=4_199_995 - 10.0 * np.arange(70))
    array.attrs["gain"] = 1e-4
    with pytest.warns(UserWarning, match="has pixels of 10 m, and the model was trained on 30 m"):
        expected = fill(array.rio.write_crs("EPSG:32630"), GapFiller(mae, "visible", 64), together=2, window=32)
    values, marks = read(tmp_path / "out")
    np.testing.assert_array_equal(marks, expected["filled"].values)
    np.testing.assert_array_equal(values, np.round(expected["image"].values))
