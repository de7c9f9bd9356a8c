"""Block splits: no two chips of different parts are nearer than the distance, across zones and the date line too."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer

from prithvi.chips import ChipStore, Sample
from prithvi.chips.build import Splitter, build
from prithvi.chips.journal import Journal
from prithvi.chips.spec import Chip, StoreSpec
from prithvi.chips.splits import BUFFER, block_split, ground_of
from prithvi.chips.store_files import read_samples
from prithvi.errors import ConfigError

SIZE = 224


def grid(crs: str, left: float, top: float, rows: int, columns: int) -> list[Sample]:
    """Chips side by side, 6,720 m each."""
    back = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    samples = []
    for row in range(rows):
        for column in range(columns):
            x, y = left + column * SIZE * 30, top - row * SIZE * 30
            lon, lat = back.transform(x + SIZE * 15, y - SIZE * 15)
            samples.append(
                Sample(
                    f"{crs}_{row}_{column}", crs, (30.0, 0.0, x, 0.0, -30.0, y), lat, lon,
                    (dt.datetime(2022, 5, 1, tzinfo=dt.UTC),), ("g",),
                )
            )  # fmt: skip
    return samples


def nearest_metres(one: Sample, other: Sample) -> float:
    """Ground distance between the edges of two chips, on the ellipsoid, by densely walking along both."""
    places = []
    for sample in (one, other):
        edge = ground_of(sample, SIZE, SIZE).exterior
        points = [edge.interpolate(share, normalized=True) for share in np.linspace(0, 1, 97)]
        back = Transformer.from_crs(sample.crs, "EPSG:4326", always_xy=True)
        places.append(np.array([back.transform(point.x, point.y) for point in points]))
    first, second = np.repeat(places[0], 97, axis=0), np.tile(places[1], (97, 1))
    return float(Geod(ellps="WGS84").inv(first[:, 0], first[:, 1], second[:, 0], second[:, 1])[2].min())


def check_apart(samples: list[Sample], parts: list[str], distance: float) -> None:
    """Compares every pair that could be near with geodesics, independent of the code under test."""
    reach = distance / 1000 + 12
    for i, one in enumerate(samples):
        for j in range(i):
            other = samples[j]
            if BUFFER in (parts[i], parts[j]) or parts[i] == parts[j]:
                continue
            middle = Geod(ellps="WGS84").inv(one.lon, one.lat, other.lon, other.lat)[2] / 1000
            if middle < reach:
                # UTM stretches by up to one part in a thousand.
                assert nearest_metres(one, other) >= distance * 0.998, (one.name, other.name)


@pytest.mark.parametrize(
    ("text", "distance"),
    [("block:5km", 5000), ("block:12km:side=30km", 12_000), ("block:500m:side=14km:val=0.3:test=0", 500)],
)
def test_parts_lie_apart_on_both_sides_of_a_zone_border(text: str, distance: float) -> None:
    samples = grid("EPSG:32631", 699_960, 5_300_040, 12, 12) + grid("EPSG:32632", 199_980, 5_300_040, 12, 12)
    parts = block_split(text, SIZE, SIZE, seed=3)(samples)
    assert {"train", "val"} <= set(parts)
    check_apart(samples, parts, distance)


def test_parts_lie_apart_across_the_date_line() -> None:
    samples = grid("EPSG:32660", 740_000, 7_400_000, 6, 10) + grid("EPSG:32601", 260_000 - 6720 * 10, 7_400_000, 6, 10)
    parts = block_split("block:5km:side=20km:val=0.2:test=0.2", SIZE, SIZE, seed=1)(samples)
    check_apart(samples, parts, 5000)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 20_000), st.floats(-0.5, 0.5))
def test_parts_lie_apart_for_any_seed_and_distance(seed: int, distance: float, shift: float) -> None:
    samples = grid("EPSG:32755", 500_000 + shift * 9000, 6_000_000, 7, 9)
    parts = block_split(f"block:{distance:.0f}m:side=20km:val=0.2:test=0.1", SIZE, SIZE, seed=seed)(samples)
    check_apart(samples, parts, round(distance))


def test_what_is_added_lies_apart_from_what_is_there() -> None:
    """A second year of the same ground and of some beside it: the first keeps its parts, whatever seed draws."""
    year = grid("EPSG:32631", 600_000, 5_300_040, 10, 14)
    first = [sample for sample in year if int(sample.name.rpartition("_")[2]) < 8]
    text = "block:1km:side=14km:val=0.2:test=0.2"
    known = block_split(text, SIZE, SIZE, seed=5)(first)
    old = [dataclasses.replace(sample, split=part) for sample, part in zip(first, known, strict=True)]
    for seed in (5, 6, 7):
        added = block_split(text, SIZE, SIZE, seed=seed)(year, old)
        check_apart([*old, *year], [*known, *added], 1000)
        assert {"train", "val", "test"} == set(added) - {BUFFER}
    unsplit = [dataclasses.replace(sample, split="") for sample in first]  # of no part, so that none is near
    assert block_split(text, SIZE, SIZE, seed=5)(year, unsplit) == block_split(text, SIZE, SIZE, seed=5)(year)


@dataclasses.dataclass
class Made:
    """A unit of a build: a chip for each sample."""

    key: str
    samples: list[Sample]

    def chips(self, spec: StoreSpec) -> Iterator[Chip]:
        for sample in self.samples:
            yield Chip(
                np.full((1, 6, spec.height, spec.width), 500, np.int16),
                dataclasses.replace(sample, good=(1.0,), filled=(0,)),
            )


def test_an_append_lies_apart_and_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = StoreSpec(32, 32, 1, fmask=False, shard=16)
    whole = grid("EPSG:32631", 600_000, 5_300_040, 8, 9)
    split = block_split("block:1km:side=14km:val=0.2:test=0.2", SIZE, SIZE, seed=8)

    def append(path: Path, split: Splitter = split) -> list[Sample]:
        build(path, spec, [Made("a", whole)], plan={}, split=split, append=True)
        return read_samples(path)

    first = tmp_path / "s.zarr"
    build(first, spec, [Made("a", whole[:60])], plan={}, split=dataclasses.replace(split, seed=5))
    path = Path(shutil.copytree(first, tmp_path / "copy.zarr"))
    with monkeypatch.context() as patch:  # it dies when all is in place, and its own folder there still
        patch.setattr(Journal, "end", lambda journal: None)
        once = append(path)
    check_apart(once, [sample.split for sample in once], 1000)
    assert append(path) == once
    # An earlier version, which drew parts without the old ones, died when shards were written in the order of these:
    # its build is finished as it was begun.
    with monkeypatch.context() as patch:
        patch.setattr("prithvi.chips.build.commit", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            append(first, lambda samples, old: split(samples))
    journal = Journal(first)
    plan = journal.plan()
    assert plan.pop("beside")
    (journal.folder / "plan.json").write_text(json.dumps(plan))
    grown = append(first)
    assert [sample.split for sample in grown[60:]] != [sample.split for sample in once[60:]]
    assert ChipStore(first).verify().problems == []


def test_nothing_is_lost_and_a_seed_repeats() -> None:
    samples = grid("EPSG:32631", 600_000, 5_300_040, 16, 16)
    split = block_split("block:1km:side=14km", SIZE, SIZE, seed=5)
    first = split(samples)
    assert len(first) == len(samples)
    assert first == split(samples) != block_split("block:1km:side=14km", SIZE, SIZE, seed=6)(samples)
    counts = {part: first.count(part) for part in set(first)}
    assert counts["train"] > counts["val"] > 0
    assert counts["test"] > 0


def test_what_cannot_be_split_is_named() -> None:
    samples = grid("EPSG:32631", 600_000, 5_300_040, 2, 2)
    with pytest.raises(ConfigError, match=r"of 4 chips in \d blocks? none is left for (test and train|train and val)"):
        block_split("block:5km", SIZE, SIZE)(samples)
    for text in ("block", "block:5", "block:5 miles", "blocks:5km", "block:5km:vall=0.1", "block:5km:val=0.6:test=0.5"):
        with pytest.raises(ConfigError, match="is no split: write block:5km"):
            block_split(text, SIZE, SIZE)
    nowhere = [dataclasses.replace(sample, crs="") for sample in samples]
    with pytest.raises(ConfigError, match="has no place"):
        block_split("block:5km", SIZE, SIZE)(nowhere)
