"""A chip store without shards: a file a sample and array, the same samples, checks and promises as with them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from prithvi.chips import Chip, ChipStore, StoreSpec, verify
from prithvi.errors import DatasetError
from prithvi.files import sha256

Make = Callable[[int], list[Chip]]


@pytest.fixture
def plain(spec: StoreSpec) -> StoreSpec:
    return dataclasses.replace(spec, sharding=False)


def content(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_it_holds_the_same_samples_and_says_that_it_has_no_shards(
    tmp_path: Path, spec: StoreSpec, plain: StoreSpec, chips: Make
) -> None:
    sharded = ChipStore.create(tmp_path / "s.zarr", spec, chips(11))
    store = ChipStore.create(tmp_path / "p.zarr", plain, chips(11))
    order = [7, 0, 10, 3, 3]
    for name, values in store.read(order).items():
        assert store.array(name).direct
        assert not store.array(name).sharded
        np.testing.assert_array_equal(values, sharded.read(order)[name])
        np.testing.assert_array_equal(zarr.open_array(store.path / name)[...][order], values)
        meta = json.loads((store.path / name / "zarr.json").read_text())
        assert [codec["name"] for codec in meta["codecs"]] == ["bytes", "blosc"]
        assert len(list((store.path / name / "c").iterdir())) == 11
    assert store.attributes["statistics"] == sharded.attributes["statistics"]
    assert (store.attributes["spec"]["sharding"], "sharding" in sharded.attributes["spec"]) == (False, False)
    assert ChipStore(store.path).spec == plain
    assert verify(store.path).problems == []


def test_appending_keeps_it_without_shards(tmp_path: Path, plain: StoreSpec, chips: Make) -> None:
    longer = ChipStore.create(tmp_path / "a.zarr", plain, chips(11)[:6]).append(chips(11)[6:])
    whole = ChipStore.create(tmp_path / "b.zarr", plain, chips(11))
    mine, theirs = content(longer.path), content(whole.path)
    assert mine.keys() == theirs.keys()
    assert {name for name in mine if mine[name] != theirs[name]} == {"zarr.json", "SHA256SUMS"}
    assert verify(longer.path).problems == []


@pytest.mark.parametrize("calls", [1, 9, 20])
def test_a_build_that_dies_goes_on_and_ends_in_the_same_bytes(
    calls: int, tmp_path: Path, plain: StoreSpec, chips: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ChipStore.create(tmp_path / "whole.zarr", plain, chips(11))
    done = 0

    def dies(file: Path) -> str:
        nonlocal done
        done += 1
        if done > calls:
            raise KeyboardInterrupt
        return sha256(file)

    with monkeypatch.context() as patched:
        patched.setattr("prithvi.chips.store_files.sha256", dies)
        with pytest.raises(KeyboardInterrupt):
            ChipStore.create(tmp_path / "c.zarr", plain, chips(11))
    with pytest.raises(DatasetError, match="unfinished"):
        ChipStore(tmp_path / "c.zarr")
    ChipStore.create(tmp_path / "c.zarr", plain, chips(11))
    assert content(tmp_path / "c.zarr") == content(whole.path)


def test_damage_is_found_and_named_with_its_sample(tmp_path: Path, plain: StoreSpec, chips: Make) -> None:
    store = ChipStore.create(tmp_path / "c.zarr", plain, chips(11))
    files = [store.array("image").file(number) for number in (2, 5, 8)]
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-40])
    damaged = bytearray(files[2].read_bytes())
    damaged[-1] ^= 1
    files[2].write_bytes(damaged)
    problems = {problem.samples: problem.what for problem in verify(store.path).problems}
    assert problems == {(2, 3): "missing", (5, 6): "truncated", (8, 9): "altered"}
    for number in (2, 5):
        with pytest.raises(DatasetError, match="data verify"):
            ChipStore(store.path).read([number])


def test_one_system_of_coordinates_is_said_by_geozarr_and_several_are_not(
    tmp_path: Path, plain: StoreSpec, chips: Make
) -> None:
    one = ChipStore.create(tmp_path / "a.zarr", plain, chips(3))
    assert one.attributes["proj:code"] == chips(1)[0].sample.crs
    assert [entry["name"] for entry in one.attributes["zarr_conventions"]] == ["proj"]
    other = [
        dataclasses.replace(chip, sample=dataclasses.replace(chip.sample, crs="EPSG:32631")) for chip in chips(4)[3:]
    ]
    two = one.append(other)
    assert not {"proj:code", "zarr_conventions"} & set(two.attributes)
