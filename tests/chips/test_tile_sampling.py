"""Choosing tiles: balance, rare classes, and validation that lies apart."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import box, shape

from prithvi.chips import sample_tiles
from prithvi.chips.tile_sampling import EQUAL_AREA, entropy, read_tiles
from prithvi.errors import ConfigError, DatasetError
from tests.synthetic_hls import Archive


@pytest.fixture
def tiles() -> gpd.GeoDataFrame:
    """600 squares, side by side with an overlap of a tenth; one class common, one rare."""
    chance = np.random.default_rng(0)
    corners = [(column * 0.9, row * 0.9) for row in range(20) for column in range(30)]
    cover = chance.choice(["forest", "crops", "water", "urban"], 600, p=[0.7, 0.2, 0.09, 0.01])
    return gpd.GeoDataFrame(
        {
            "tile": [f"t{index}" for index in range(600)],
            "cover": cover,
            "rain": chance.normal(800, 200, 600) + (cover == "water") * 900,
            "warmth": chance.normal(10, 3, 600),
        },
        geometry=[box(x, y, x + 1, y + 1) for x, y in corners],
        crs="EPSG:4326",
    )


def test_equal_draws_raise_the_entropy_that_is_reported(tiles: gpd.GeoDataFrame) -> None:
    found = sample_tiles(tiles, ["cover"], count=80, validation=0.05)
    assert found.before["cover"] == pytest.approx(entropy(tiles["cover"]))
    assert found.after["cover"] == pytest.approx(entropy(found.tiles["cover"]))
    assert found.after["cover"] > found.before["cover"] + 0.3
    counts = found.tiles["cover"].value_counts()
    assert counts["forest"] == pytest.approx(counts["crops"], abs=4)
    rare = (tiles["cover"] == "urban").sum()
    assert counts["urban"] + found.dropped >= min(rare, 20)
    assert "entropy cover" in found.sentence()


def test_entropy_is_shannons_in_nats() -> None:
    assert entropy(pd.Series(["a", "b", "c", "d"])) == pytest.approx(np.log(4))
    assert entropy(pd.Series(["a", "a"])) == 0


def test_every_class_keeps_its_least_number(tiles: gpd.GeoDataFrame) -> None:
    found = sample_tiles(tiles, ["cover", "rain", "warmth"], count=40, clusters=6, minimum=4, validation=0)
    have = (tiles["cover"] == "urban").sum()
    assert (found.tiles["cover"] == "urban").sum() >= min(4, have)
    assert len(found.tiles) >= 40
    assert {"cover", "cluster", "stratum"} == set(found.after)


def test_no_training_tile_overlaps_a_validation_tile_by_more_than_the_limit(tiles: gpd.GeoDataFrame) -> None:
    limit = 0.05
    found = sample_tiles(tiles, ["cover"], count=400, validation=0.1, overlap=limit)
    flat = found.tiles.to_crs(EQUAL_AREA)
    held, train = flat[flat["split"] == "val"], flat[flat["split"] == "train"]
    assert len(held) == 40
    worst = max(
        one.intersection(other).area / one.area
        for one in train.geometry
        for other in held.geometry
        if one.intersects(other)
    )
    assert worst <= limit
    assert found.dropped > 0
    loose = sample_tiles(tiles, ["cover"], count=400, validation=0.1, overlap=0.5)
    assert loose.dropped == 0


def test_a_seed_gives_the_same_tiles_and_another_others(tiles: gpd.GeoDataFrame) -> None:
    draw = [
        sample_tiles(tiles, ["cover", "rain"], count=60, clusters=4, seed=seed).tiles["tile"].tolist()
        for seed in (1, 1, 2)
    ]
    assert draw[0] == draw[1] != draw[2]


def test_what_cannot_be_drawn_from_is_named(tiles: gpd.GeoDataFrame) -> None:
    with pytest.raises(ConfigError, match="no column 'covr': did you mean cover"):
        sample_tiles(tiles, ["covr"], count=5)
    with pytest.raises(ConfigError, match="rain are numbers: say how many clusters"):
        sample_tiles(tiles, ["rain"], count=5)
    with pytest.raises(ConfigError, match="column cover is empty for 600 tiles"):
        sample_tiles(tiles.assign(cover=None), ["cover"], count=5)
    with pytest.raises(DatasetError, match="without a CRS"):
        sample_tiles(tiles.set_crs(None, allow_override=True), ["cover"], count=5)


def test_a_table_without_geometry_takes_the_places_of_its_granules(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "tiles.csv").write_text("tile,cover\nT32ULC,forest\n10SFE,sea\n31UDS,crops\n")
    tiles = read_tiles(tmp_path / "tiles.csv", archive.items)
    assert tiles["tile"].tolist() == ["32ULC", "31UDS"]
    for tile, place in zip(tiles["tile"], tiles.geometry, strict=True):
        mine = [shape(item.geometry) for item in archive.items if item.id[9:14] == tile]
        assert all(place.symmetric_difference(one).area < 1e-9 for one in mine)
