"""Building: pixels are the granules', a killed build ends in the same bytes, one failure costs only itself."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.windows import Window

from prithvi.chips import ChipStore, DateRule, Filters, verify
from prithvi.chips.journal import Journal
from prithvi.chips.recipes import Recipe, store_of_granules
from prithvi.errors import ConfigError, DatasetError, OutputError, SceneError
from prithvi.hls.granules import Granule
from tests.synthetic_hls import Archive, burn, burn_perimeters, cover, expected_dn, pixel_centres

RECIPE = Recipe(
    size=64, frames=2, filters=Filters(0.5, 0.05), dates=DateRule(2, 10, 60, 0.6, 0.2, wanted=0), per_place=3
)
HERE = Path(__file__).parent


def content(path: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def build(archive: Archive, path: Path, **options: object) -> ChipStore:
    return store_of_granules(archive.root, path, RECIPE, shard=16, split="block:1km:side=4km", seed=3, **options)


@pytest.fixture(scope="module")
def whole(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> ChipStore:
    return build(archive, tmp_path_factory.mktemp("store") / "whole.zarr")


def test_every_pixel_is_the_granules_pixel_at_its_coordinates(archive: Archive, whole: ChipStore) -> None:
    """Read back with rasterio, by the affine in the store; and computed again from the coordinates."""
    assert len(whole) >= 60
    assert {sample.split("_")[0] for sample in whole.samples["name"]} == {"T31UDS", "T32ULC"}
    filled = clouded = 0
    for number, row in enumerate(whole.samples.itertuples()):
        pixels = whole.read([number])
        at = Affine(*row.affine)
        x, y = pixel_centres(at, 64, 64)
        for time_step, name in enumerate(row.granules):
            granule = Granule.parse(name)
            assert row.times[time_step] == granule.time
            with rasterio.open(archive.root / name / granule.file_name("fmask")) as raster:
                window = _window(raster, at)
                assert row.crs == f"EPSG:{raster.crs.to_epsg()}"
                fmask = raster.read(1, window=window)
            stored_fmask = pixels["fmask"][0, time_step]
            taken = (stored_fmask == 255) & (fmask != 255)
            np.testing.assert_array_equal(stored_fmask[~taken], fmask[~taken])
            for place, band in enumerate(whole.spec.bands):
                with rasterio.open(archive.root / name / granule.file_name(band)) as raster:
                    true = raster.read(1, window=_window(raster, at))
                stored = pixels["image"][0, time_step, place]
                np.testing.assert_array_equal(stored[true != -9999], true[true != -9999])
                assert (stored != -9999).all()
                assert (stored_fmask[true == -9999] == 255).all()
                clear = (stored_fmask & 0b1010 == 0) & (stored_fmask != 255)
                expected = expected_dn(x, y, granule.time.date(), band)
                np.testing.assert_array_equal(stored[clear], expected[clear])
                clouded += int((~clear).sum())
            filled += row.filled[time_step]
            assert row.filled[time_step] == (stored_fmask == 255).sum()
            good = (fmask & 0b1010 == 0) & (fmask != 255)
            assert row.good[time_step] == pytest.approx(good.mean(), abs=1e-6)
            assert good.mean() >= RECIPE.filters.good
    assert filled > 0  # the archive has holes, or this test would say nothing about them
    assert clouded > 0


def _window(raster: rasterio.DatasetReader, at: Affine) -> Window:
    column, row = ~raster.transform * (at.c, at.f)
    assert column == int(column)
    assert row == int(row)
    return Window(int(column), int(row), 64, 64)


def test_what_the_filters_leave_out_fails_them(archive: Archive, whole: ChipStore) -> None:
    """Every place and date that is in no chip though a sequence has it was counted anew and found wanting."""
    strict = dataclasses.replace(RECIPE, filters=Filters(0.95, 0.0))
    store = store_of_granules(archive.root, whole.path.parent / "strict.zarr", strict, shard=16, seed=3)
    for row in store.samples.itertuples():
        assert min(row.good) >= 0.95
        assert max(row.filled) == 0
    assert 0 < len(store) < len(whole)
    assert max(whole.samples["name"].map(lambda name: name.rsplit("_", 1)[0]).value_counts()) <= RECIPE.per_place


def test_two_builds_give_the_same_bytes_and_a_second_run_does_nothing(
    archive: Archive, whole: ChipStore, tmp_path: Path
) -> None:
    again = build(archive, tmp_path / "again.zarr", workers=1)
    assert content(again.path) == content(whole.path)
    stamp = (again.path / "zarr.json").stat().st_mtime_ns
    build(archive, tmp_path / "again.zarr")
    assert (again.path / "zarr.json").stat().st_mtime_ns == stamp
    with pytest.raises(DatasetError, match=r"was built otherwise \(seed, split differ\): choose another name"):
        store_of_granules(archive.root, again.path, RECIPE, shard=16, seed=4)
    assert verify(again.path).problems == []


@pytest.mark.slow
@pytest.mark.parametrize(("how", "count"), [("files", 6), ("moments", 20)])
def test_a_killed_build_goes_on_and_ends_in_the_same_bytes(
    archive: Archive, tmp_path: Path, how: str, count: int
) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("needs fork and SIGKILL")
    command = [sys.executable, str(HERE / "kill_builds.py"), str(archive.root), str(tmp_path), how, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert len(result["runs"]) == count
    for run in result["runs"]:
        assert run["completed"], done.stderr
        assert run["differ"] == [], run


def test_an_unfinished_store_says_so_and_what_is_there_is_checked(
    archive: Archive, tmp_path: Path, whole: ChipStore
) -> None:
    path = tmp_path / "begun.zarr"
    code = f"""
import os, signal, pathlib
import prithvi.chips.build as build
from prithvi.chips import journal
note = journal.Journal.note
def note_and_die(self, entry):
    note(self, entry)
    os.kill(os.getpid(), signal.SIGKILL)
journal.Journal.note = note_and_die
import sys; sys.path.insert(0, {str(HERE.parents[1])!r})
from tests.chips.test_build import RECIPE
from prithvi.chips.recipes import store_of_granules
store_of_granules({str(archive.root)!r}, {str(path)!r}, RECIPE, shard=16, split="block:1km:side=4km", seed=3)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with pytest.raises(DatasetError, match=r"begun\.zarr is unfinished: run the command that builds it again"):
        ChipStore(path)
    report = verify(path)
    assert report.problems == []
    assert report.unfinished == "a build of it is unfinished (1 shards are written): run the same command again."
    with pytest.raises(DatasetError, match="holds an unfinished build that differs in granules, recipe"):
        store_of_granules(archive.root, path, dataclasses.replace(RECIPE, frames=1), shard=16)
    build(archive, path)
    assert content(path) == content(whole.path)


def test_a_split_that_leaves_a_part_empty_is_mended_without_cutting_anew(
    archive: Archive, whole: ChipStore, tmp_path: Path
) -> None:
    path = tmp_path / "mended.zarr"
    with pytest.raises(ConfigError, match="make blocks or distance smaller"):
        store_of_granules(archive.root, path, RECIPE, shard=16, split="block:1km:side=4000km", seed=3)
    journal = Journal(path)
    for unit in journal.staged.iterdir():
        os.utime(unit, ns=(1, 1))
    plan = journal.plan()
    with pytest.raises(DatasetError, match="unfinished build that differs in split: finish it"):  # cut with the chips
        journal.begin({**plan, "split": "column:part"})
    (journal.new / "left.partial").write_bytes(b"of the other order")
    journal.begin({**plan, "split": "block:1km:side=4km"})
    assert [unit.stat().st_mtime_ns for unit in journal.staged.iterdir()] == [1, 1]
    build(archive, path)
    assert content(path) == content(whole.path)


@pytest.mark.slow
def test_a_second_build_of_one_store_is_refused_by_name(archive: Archive, tmp_path: Path) -> None:
    path = tmp_path / "busy.zarr"
    code = f"""
from prithvi.chips.journal import Journal
import pathlib, sys, time
with Journal(pathlib.Path({str(path)!r})).lock():
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            with pytest.raises(
                DatasetError, match=rf"busy\.zarr is being built by process {other.pid} on .*: wait for it"
            ):
                build(archive, path)
        finally:
            other.kill()
    store = build(archive, path)  # whoever dies lets go
    assert verify(store.path).problems == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_the_store_still_verifies(
    archive: Archive, small_disk: Path, whole: ChipStore
) -> None:
    with pytest.raises(OutputError, match=r"the disk of .*s\.zarr is full \(\d+ MB free\): what was done is kept"):
        build(archive, small_disk / "s.zarr")
    report = verify(small_disk / "s.zarr")
    assert report.problems == []
    assert "unfinished" in report.unfinished
    # The same over a store that is finished: it stays as it is.
    shutil.rmtree(small_disk / "s.zarr")
    few = dataclasses.replace(RECIPE, per_place=1, per_tile=4)
    store = store_of_granules(archive.root / sorted(os.listdir(archive.root))[0], small_disk / "t.zarr",
                              dataclasses.replace(few, frames=1), shard=16, seed=3)  # fmt: skip
    before = content(store.path)
    with pytest.raises(OutputError, match="is full"):
        store_of_granules(
            archive.root, store.path, dataclasses.replace(RECIPE, frames=1), shard=16, seed=3, append=True
        )
    after = {name: data for name, data in content(store.path).items() if not name.startswith(".build")}
    assert after == before
    assert verify(store.path).problems == []
    assert ChipStore(store.path).read([0])["image"].shape == (1, 1, 6, 64, 64)


def test_a_damaged_granule_costs_its_tile_and_is_named(archive: Archive, tmp_path: Path, whole: ChipStore) -> None:
    root = tmp_path / "granules"
    shutil.copytree(archive.root, root, ignore=shutil.ignore_patterns("catalog", "truth", "items.json"))
    victim = next(root.glob("HLS.S30.T31UDS*/*B8A.tif"))
    whole_file = victim.read_bytes()
    victim.write_bytes(whole_file[: len(whole_file) // 2])
    with pytest.raises(DatasetError, match=rf"1 of 2 parts failed, T31UDS with: .*{victim.name}.* The others are kept"):
        store_of_granules(root, tmp_path / "s.zarr", RECIPE, shard=16, split="block:1km:side=4km", seed=3)
    assert [path.name for path in (tmp_path / "s.zarr/.build/staged").iterdir()] == ["T32ULC"]
    victim.write_bytes(whole_file)
    store = store_of_granules(root, tmp_path / "s.zarr", RECIPE, shard=16, split="block:1km:side=4km", seed=3)
    assert content(store.path) == content(whole.path)


def test_a_granule_of_another_scale_is_named_with_its_commonest_value(archive: Archive, tmp_path: Path) -> None:
    root = tmp_path / "granules"
    shutil.copytree(archive.root, root, ignore=shutil.ignore_patterns("catalog", "truth", "items.json", "*T32ULC*"))
    victim = next(root.glob("HLS.S30*/*B11.tif"))
    with rasterio.open(victim) as raster:
        pixels, profile = raster.read(), raster.profile
    pixels[:, :, :200], pixels[:, :, 200:300], pixels[:, :, 300] = 30_000, 25_000, 21_000
    victim.unlink()
    with rasterio.open(victim, "w", **{**profile, "driver": "GTiff"}) as raster:
        raster.write(pixels)
    with pytest.raises(DatasetError, match=r"has values such as 30000 from row 0 on, which are no HLS"):
        store_of_granules(root, tmp_path / "s.zarr", RECIPE)


def test_a_granule_on_another_grid_is_refused_and_named(archive: Archive, tmp_path: Path) -> None:
    root = tmp_path / "granules"
    shutil.copytree(archive.root, root, ignore=shutil.ignore_patterns("catalog", "truth", "items.json", "*T32ULC*"))
    victim = next(root.glob("HLS.S30*/*B11.tif"))
    with rasterio.open(victim) as raster:
        pixels, profile = raster.read(), raster.profile
    profile.update(driver="GTiff", transform=profile["transform"] * Affine.translation(1, 0))
    victim.unlink()
    with rasterio.open(victim, "w", **profile) as raster:
        raster.write(pixels)
    with pytest.raises(DatasetError, match=rf"{victim.name} lies on another grid than"):
        store_of_granules(root, tmp_path / "s.zarr", RECIPE)


@pytest.mark.slow
def test_a_cluster_with_a_worker_killed_ends_in_the_same_bytes(
    archive: Archive, whole: ChipStore, tmp_path: Path
) -> None:
    script = HERE / "kill_worker.py"
    command = [sys.executable, str(script), str(archive.root), str(tmp_path / "c.zarr")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1])["killed"] is True
    assert content(tmp_path / "c.zarr") == content(whole.path)


def test_labels_are_cut_with_the_pixels(archive: Archive, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, labels=str(archive.fields), class_column="crop")
    store = store_of_granules(archive.root, tmp_path / "s.zarr", recipe, shard=16, split="column:part")
    assert [entry.name for entry in store.spec.classes] == ["maize", "wheat"]
    assert {"train", "val"} <= set(store.samples["split"])
    for number, row in enumerate(store.samples.itertuples()):
        label = store.read([number], ["label"])["label"][0]
        x, y = pixel_centres(Affine(*row.affine), 64, 64)
        field = 2 + (np.floor(x / 720) * 7919 + np.floor(y / 720) * 104_729).astype(np.int64) % 17 % 2
        # Pixel centres exactly on a border may fall to either side; none is far from it.
        border = np.minimum.reduce([x % 720, 720 - x % 720, y % 720, 720 - y % 720]) < 1
        here = (label != 255) & ~border
        np.testing.assert_array_equal(label[here] + 2, field[here])
        assert row.labelled == pytest.approx((label != 255).mean())
    found = store.attributes["statistics"]["classes"]
    labels = store.read(store.indices("train"), ["label"])["label"]
    assert found == [int((labels == 0).sum()), int((labels == 1).sum())]


def test_burn_polygons_come_back_pixel_for_pixel(archive: Archive, tmp_path: Path) -> None:
    with rasterio.open(archive.truth["31UDS"]) as raster:
        at, size = raster.transform, raster.width
        np.testing.assert_array_equal(raster.read(1), cover(*pixel_centres(at, size, size)))
    day = Granule.parse(archive.items[0].id).time.date().replace(month=8)

    class Grid:
        affine = at
        crs = type("Crs", (), {"epsg": 32631})

    burnt = burn_perimeters(Grid, size, day)
    assert len(burnt) > 0
    burnt.to_file(tmp_path / "burnt.gpkg")
    recipe = dataclasses.replace(
        RECIPE, labels=str(tmp_path / "burnt.gpkg"), class_column="state", background="not burnt"
    )
    items = archive.root
    store = store_of_granules(items, tmp_path / "s.zarr", recipe, shard=16)
    seen = 0
    for number in np.flatnonzero(store.samples["tile"] == "31UDS"):
        row = store.samples.iloc[number]
        x, y = pixel_centres(Affine(*row["affine"]), 64, 64)
        label = store.read([int(number)], ["label"])["label"][0]
        np.testing.assert_array_equal(label == 1, burn(x, y, day))
        seen += int((label == 1).sum())
    assert seen > 0


def test_an_area_limits_the_chips(archive: Archive, tmp_path: Path, whole: ChipStore) -> None:
    middle = whole.samples[whole.samples["tile"] == "32ULC"].geometry.iloc[0].buffer(0.004)
    gpd.GeoDataFrame(geometry=[middle], crs="EPSG:4326").to_file(tmp_path / "area.geojson")
    recipe = dataclasses.replace(RECIPE, area=str(tmp_path / "area.geojson"))
    store = store_of_granules(archive.root, tmp_path / "s.zarr", recipe, shard=16)
    assert set(store.samples["tile"]) == {"32ULC"}
    assert 0 < len(store) < (whole.samples["tile"] == "32ULC").sum()


def test_what_cannot_be_built_says_why(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no chip was left: each of the 2 parts"):
        store_of_granules(archive.root, tmp_path / "a.zarr", dataclasses.replace(RECIPE, size=400), shard=16)
    assert not (tmp_path / "a.zarr").exists()
    with pytest.raises(DatasetError, match="none of the 2 tiles has 9 dates"):
        store_of_granules(archive.root, tmp_path / "a.zarr", dataclasses.replace(RECIPE, frames=9))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").write_text("x")
    with pytest.raises(DatasetError, match=r"is a folder with other files in it \(thesis\.doc\)"):
        build(archive, tmp_path / "full")
    with pytest.raises(ConfigError, match="names a column of the label file: give one"):
        store_of_granules(archive.root, tmp_path / "a.zarr", RECIPE, split="column:part")
    with pytest.raises(ConfigError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        build(archive, tmp_path / "a.zarr", scheduler="tcp://127.0.0.1:9")
    with pytest.raises(SceneError, match="is no HLS granule name"):
        Granule.parse("S2A_MSIL2A_20170617T113321")
