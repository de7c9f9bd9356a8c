"""GDAL's memory of blocks: bounded while it is asked for, and the caller's again afterwards."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import rasterio
from rasterio.env import get_gdal_config

from prithvi.mapping import class_polygons, map_scene
from prithvi.modelio import load
from prithvi.products.classmap import mapped_areas
from prithvi.report import view
from prithvi.scenes import open_scene
from prithvi.scenes.block_cache import room_for


def bound() -> int:
    return int(get_gdal_config("GDAL_CACHEMAX"))


def test_work_on_several_threads_has_room_for_all_and_the_process_its_own_bound_back() -> None:
    before, both, one_left = bound(), Barrier(2, timeout=20), Barrier(2, timeout=20)

    def first() -> int:
        with room_for(30_000_000):
            both.wait()
            seen = bound()
        one_left.wait()
        return seen

    def second() -> tuple[int, int]:
        with room_for(20_000_000):
            both.wait()
            one_left.wait()
            return bound(), before

    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(first), pool.submit(second)]
        assert answers[0].result(20) in (50_000_000, 20_000_000)
        assert answers[1].result(20) == (20_000_000, before)
    assert bound() == before


def test_a_bound_that_is_smaller_already_stays() -> None:
    with rasterio.Env(GDAL_CACHEMAX=8_000_000):
        with room_for(30_000_000):
            assert bound() == 8_000_000
        assert bound() == 8_000_000


def test_it_goes_after_an_error_as_well() -> None:
    before = bound()

    def fail() -> None:
        with room_for(30_000_000):
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert bound() == before


def test_calls_within_an_environment_of_the_caller_give_its_bound_back(
    write_tif: Callable[..., Path], six_bands: np.ndarray, model_folder: Path, tmp_path: Path
) -> None:
    scene = open_scene(write_tif(six_bands[:, :64, :64], nodata=-9999), dates=["2022-05-01"])
    with rasterio.Env():
        before = bound()
        made = map_scene(load(model_folder), scene, tmp_path / "map.tif")
        assert bound() == before
        for look in (mapped_areas, class_polygons, lambda path: view(path, tmp_path / "page.html")):
            look(made.path)
            assert bound() == before
    assert bound() == before
