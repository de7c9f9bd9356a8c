"""Reads from servers side by side: few requests, a bounded number at a time, and the same pixels as from disk."""

from __future__ import annotations

import base64
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from prithvi.chips.date_plan import DateRule, choose_dates
from prithvi.chips.filters import Filters, Recipe
from prithvi.chips.spec import StoreSpec
from prithvi.chips.tile_units import tile_units
from prithvi.errors import SceneError
from prithvi.scenes import crop, open_scene, read
from prithvi.scenes.in_flight import AT_ONCE, in_order
from prithvi.scenes.remote import gdal_environment
from tests.http_files import Served, serve_folder
from tests.synthetic_hls import Archive

Write = Callable[..., Path]
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.05")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve_folder(tmp_path) as server:
        yield server


def granule(write_tif: Write, day: int = 100, size: int = 1024, **options: object) -> tuple[list[Path], np.ndarray]:
    """Six files of one band each, in 256 x 256 blocks, with some nodata."""
    data = np.random.default_rng(day).integers(1, 5000, (6, size, size)).astype(np.int16)
    data[:, 300:340, 500:600] = -9999
    profile = {"driver": "COG", "blocksize": 256, "overviews": "none", "compress": "deflate", **options}
    names = [f"HLS.L30.T31TDF.2022{day}T105000.v2.0.{band}.tif" for band in BANDS]
    paths = [write_tif(band[None], name, names=None, nodata=-9999, **profile)
             for band, name in zip(data, names, strict=True)]  # fmt: skip
    return paths, data


def test_a_file_costs_a_header_and_a_request_for_each_row_of_pieces(served: Served, write_tif: Write) -> None:
    paths, data = granule(write_tif)
    scene = open_scene([f"{served.url}/{path.name}" for path in paths])
    assert len(served.requests) == 6
    found = scene.values[0]
    np.testing.assert_array_equal(np.nan_to_num(found, nan=-9999), data)
    # Two rows of pieces of 512 rows. The header is not asked for again, and no block is sent twice.
    assert len(served.requests) == 6 * (1 + 2)
    assert served.sent < sum(path.stat().st_size for path in paths) + 6 * 40_000


def test_every_way_to_the_pixels_gives_those_of_the_disk(served: Served, write_tif: Write) -> None:
    paths, _ = granule(write_tif, 101, 700)
    far, near = open_scene([f"{served.url}/{path.name}" for path in paths]), open_scene(paths)
    ways: tuple[Callable[..., object], ...] = (
        lambda scene: scene.values,
        lambda scene: scene.load().values,
        lambda scene: (scene * 2).isel(x=slice(100, 600)).values,
        lambda scene: scene.isel(y=slice(650, 10, -3), x=[9, 3, 512, 699]).values,
        lambda scene: np.asarray(scene.data, np.float64),
        lambda scene: read(crop(scene, slice(500, 530), slice(240, 270))),
    )
    for way in ways:
        here, there = way(near.copy()), way(far.copy())
        assert here.dtype == there.dtype  # type: ignore[attr-defined]
        np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize(
    "form",
    [
        {"tiled": False, "compress": "deflate"},
        {"tiled": False, "compress": "lzw", "interleave": "pixel"},
        {"tiled": True, "blockxsize": 64, "blockysize": 32, "compress": "zstd", "interleave": "band"},
    ],
    ids=lambda form: f"{form['compress']}-{form.get('interleave', 'default')}",
)
def test_files_of_any_form_are_read_the_same_way(form: dict[str, object], served: Served, write_tif: Write) -> None:
    data = np.random.default_rng(1).integers(1, 5000, (6, 300, 500)).astype(np.int16)
    path = write_tif(data, "-".join(map(str, form.values())) + ".tif", **form)
    far = open_scene(f"{served.url}/{path.name}")
    np.testing.assert_array_equal(far.values, open_scene(path).values)


def test_bands_wait_side_by_side_and_never_too_many(served: Served, write_tif: Write) -> None:
    days = range(110, 115)
    paths = [path for day in days for path in granule(write_tif, day, 256)[0]]
    served.delay = 0.05
    scene = open_scene([f"{served.url}/{path.name}" for path in paths])
    assert scene.shape == (5, 6, 256, 256)
    assert 6 < served.most <= AT_ONCE
    served.most = 0
    np.testing.assert_array_equal(scene.values, open_scene(paths).values)
    assert 6 < served.most <= AT_ONCE


def test_tasks_are_begun_a_few_ahead_and_none_after_a_failure() -> None:
    begun: list[int] = []

    def tasks() -> Iterator[Callable[[], int]]:
        for number in range(100):
            begun.append(number)
            yield lambda number=number: 1 // (5 - number) or number  # type: ignore[misc]

    found = in_order(tasks())
    assert next(found) == 0
    assert len(begun) == AT_ONCE
    with pytest.raises(ZeroDivisionError):
        list(found)
    assert len(begun) <= AT_ONCE + 5


def test_one_band_that_fails_is_one_sentence_with_its_name_and_host(served: Served, write_tif: Write) -> None:
    paths, data = granule(write_tif, 102)
    scene = open_scene([f"{served.url}/{path.name}" for path in paths])
    served.broken = "B06"
    host = served.url.removeprefix("http://")
    with pytest.raises(SceneError, match=rf"B06\.tif could not be read: {host} answers with status 503, also when"):
        _ = scene.values
    served.broken, served.status, served.failures, served.drops = "", 429, 3, 2  # for the moment only
    np.testing.assert_array_equal(np.nan_to_num(scene.values[0], nan=-9999), data)


def test_options_of_the_asking_thread_hold_in_the_threads_that_read(served: Served, write_tif: Write) -> None:
    """GDAL keeps what is set in any thread but the main one to that thread."""
    paths, _ = granule(write_tif, 103, 256)

    def ask() -> None:
        with rasterio.Env(GDAL_HTTP_USERPWD="user:word"):
            _ = open_scene([f"{served.url}/{path.name}" for path in paths]).values

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    said = f"Basic {base64.b64encode(b'user:word').decode()}"
    assert {login for _, _, login in served.requests} == {said}
    served.requests.clear()
    paths, _ = granule(write_tif, 104, 256)
    _ = open_scene([f"{served.url}/{path.name}" for path in paths]).values
    assert {login for _, _, login in served.requests} == {None}  # the same threads, asked from elsewhere


def test_a_login_stays_with_its_host_after_a_redirect(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHDATA_TOKEN", "secret")
    monkeypatch.setenv("PRITHVI_ALLOW_PRIVATE", "localhost")
    recipe = Recipe(size=64, frames=2, filters=Filters(0.5, 0.05), dates=DateRule(2, 10, 60, 0.6, 0.2, wanted=0))
    spec = StoreSpec(64, 64, 2)
    chosen = choose_dates(archive.items[:4], recipe.dates)
    expected = list(tile_units(chosen, recipe, 0, None, None)[0].chips(spec))
    with serve_folder(archive.root) as storage, serve_folder(archive.root, token="secret") as front:
        front.redirect = storage.url.replace("127.0.0.1", "localhost")
        storage.delay = 0.1
        for item in chosen:
            for asset in item.assets.values():
                asset.href = asset.href.replace(archive.root.resolve().as_uri(), front.url)
        unit = tile_units(chosen, recipe, 0, None, None)[0]
        options = gdal_environment([unit.granules[0].fmask], hosts=("127.0.0.1",))
        chips = list(replace(unit, options=options).chips(spec))
    for chip, other in zip(chips, expected, strict=True):
        np.testing.assert_array_equal(chip.image, other.image)
    assert {login for _, _, login in front.requests} == {"Bearer secret"}
    assert {login for _, _, login in storage.requests} == {None}
    assert 7 <= storage.most <= AT_ONCE  # the files of a granule at least


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_reads_with_threads_of_its_own(served: Served, write_tif: Write) -> None:
    paths, _ = granule(write_tif, 105)
    scene = open_scene([f"{served.url}/{path.name}" for path in paths])
    total = float(np.nansum(scene.values))
    fork = multiprocessing.get_context("fork")
    receive, send = fork.Pipe(duplex=False)
    child = fork.Process(target=lambda: send.send(float(np.nansum(scene.values))), daemon=True)
    child.start()
    assert receive.poll(60)
    assert receive.recv() == total
    child.join(10)
    assert child.exitcode == 0
