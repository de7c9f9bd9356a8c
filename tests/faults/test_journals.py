"""Records of what is half done that were damaged: the work begins anew, and ends in the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import zarr

from prithvi.chips.journal import Journal
from prithvi.mapping import fill_series, map_scene
from prithvi.mapping.zarrfile import attributes_of
from prithvi.modelio.predictor import FittedModel
from prithvi.scenes import open_scene
from prithvi.service.job_store import Jobs
from tests.conftest import small_task

Write = Callable[..., Path]
DAMAGED = ["", "[]", "{", "3", '{"rows": null, "run": []}', '{"rows": "many"}']


@pytest.fixture(scope="module")
def model() -> FittedModel:
    return small_task().fitted(seed=0)


@pytest.mark.parametrize("text", DAMAGED[1::2])
def test_a_map_begins_anew(
    text: str, write_tif: Write, six_bands: np.ndarray, tmp_path: Path, model: FittedModel
) -> None:
    scene = open_scene(write_tif(six_bands[:, :100, :64], nodata=-9999))

    def stop(done: int, number: int) -> None:
        if done * 2 >= number:
            raise KeyboardInterrupt

    path = tmp_path / "out" / "map.tif"
    with pytest.raises(KeyboardInterrupt):
        map_scene(model, scene, path, progress=stop)
    journal = path.parent / f".{path.name}.partial" / "journal.json"
    assert json.loads(journal.read_text())["rows"] > 0
    journal.write_text(text)
    map_scene(model, scene, path, resume=True)
    map_scene(model, scene, tmp_path / "whole.tif")
    with rasterio.open(path) as made, rasterio.open(tmp_path / "whole.tif") as whole:
        assert np.array_equal(made.read(), whole.read())


@pytest.mark.parametrize("text", DAMAGED[::2])
def test_a_store_whose_attributes_are_none_is_made_anew(
    text: str, write_tif: Write, six_bands: np.ndarray, tmp_path: Path
) -> None:
    """As with --resume of a finished one that was damaged since."""
    files = [write_tif(six_bands[:, :32, start : start + 32], f"{start}.tif", nodata=-9999) for start in (0, 8)]
    scene = open_scene(files, dates=["2022-05-01", "2022-05-17"])
    store = fill_series(scene, tmp_path / "cube.zarr", "nearest", resume=True).paths[0]
    assert attributes_of(store)["PRITHVI_RUN"]
    (store / ".zattrs").write_text(text)
    assert "PRITHVI_RUN" not in attributes_of(store)
    fill_series(scene, store, "nearest", resume=True)
    assert zarr.open_group(store, mode="r").attrs["PRITHVI_RUN"]


def test_a_build_s_lines_and_plan_that_are_none_are_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "chips.zarr")
    journal.folder.mkdir(parents=True, exist_ok=True)
    journal.file.write_text('{"shard": 0}\n[1]\n{"sh\n7\n{"shard": 1}\n')
    assert journal.entries() == [{"shard": 0}, {"shard": 1}]
    for text in ("[]", "{", "3"):
        (journal.folder / "plan.json").write_text(text)
        assert journal.plan() == {}


def test_a_job_s_record_that_is_none_is_left_out(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    for name, text in (("a", '{"created": "1"}'), ("b", "[1]"), ("c", "{"), ("d", "7")):
        (tmp_path / "jobs" / name).mkdir(parents=True)
        (tmp_path / "jobs" / name / "job.json").write_text(text)
    assert jobs.all() == [{"created": "1"}]
