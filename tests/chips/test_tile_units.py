"""A tile's files on a server: asked again where it fails, signed anew where signatures end; the parts of its chips."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import geopandas as gpd
import numpy as np
import pystac
import pytest
from shapely.geometry import box

from prithvi.chips.date_plan import DateRule, choose_dates
from prithvi.chips.filters import Filters, Recipe
from prithvi.chips.label_files import open_labels
from prithvi.chips.spec import StoreSpec
from prithvi.chips.tile_units import TileUnit, tile_units
from prithvi.errors import HubError
from prithvi.hls.items import MISSING
from prithvi.scenes.logins import token
from tests.http_files import serve_folder, signed_by
from tests.synthetic_hls import Archive

RECIPE = Recipe(size=64, frames=2, filters=Filters(0.5, 0.05), dates=DateRule(2, 10, 60, 0.6, 0.2, wanted=0))
SPEC = StoreSpec(64, 64, 2)


def unit_of(items: list[pystac.Item]) -> TileUnit:
    return tile_units(choose_dates(items, RECIPE.dates), RECIPE, 0, None, None)[0]


def test_a_tile_is_read_though_signatures_end_and_the_server_fails_meanwhile(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signatures of the Planetary Computer hold for an hour: they are neither of the plan nor of the whole tile."""
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.05")
    local = [item.clone() for item in archive.items[:4]]
    for item in local:
        item.properties.pop(MISSING, None)  # so that planning reads, too
    expected = list(unit_of(local).chips(SPEC))
    assert len(expected) > 5
    with serve_folder(archive.root, signature="plan") as server:
        signed_by(monkeypatch, server)
        items = [item.clone() for item in local]
        for item in items:
            for asset in item.assets.values():
                asset.href = asset.href.replace(archive.root.resolve().as_uri(), server.url)
        unit = unit_of(items)
        assert "sig=" not in str(unit.granules)
        server.signature, server.drops = "open", 2
        found = unit.chips(SPEC)
        chips = [next(found)]
        server.signature = "later"
        chips += found
    for chip, other in zip(chips, expected, strict=True):
        np.testing.assert_array_equal(chip.image, other.image)
        assert chip.sample == other.sample


def test_a_login_for_one_file_of_a_granule_reaches_no_other_host(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mask lies at a host that wants a login, a band elsewhere: the tile's options would hold for both."""
    monkeypatch.setenv("EARTHDATA_TOKEN", "secret")
    token.cache_clear()
    items = [item.clone() for item in archive.items[:4]]
    for item in items:
        for name, asset in item.assets.items():
            host = "https://data.lpdaac.earthdatacloud.nasa.gov" if name == "Fmask" else "https://example.org"
            asset.href = asset.href.replace(archive.root.resolve().as_uri(), host)
    with pytest.raises(
        HubError, match=r"and of example\.org cannot be read together: a login would reach both"
    ) as failure:
        unit_of(items)
    assert "secret" not in str(failure.value)


def test_a_chip_with_fields_of_two_parts_is_of_neither_and_one_without_of_its_tile_s(
    archive: Archive, tmp_path: Path
) -> None:
    chosen = choose_dates([item.clone() for item in archive.items[:4]], RECIPE.dates)
    for item in chosen:
        item.properties["prithvi:split"] = "train"
    first = tile_units(chosen, RECIPE, 0, None, None)[0]
    sample = next(first.chips(SPEC)).sample
    a, _, left, _, e, top = sample.affine
    fields = [box(left + begin * a, top + 30 * e, left + (begin + 20) * a, top + 3 * e) for begin in (5, 35)]
    frame = gpd.GeoDataFrame({"kind": "field", "part": ["val", "test"]}, geometry=fields, crs=sample.crs)
    frame.to_file(tmp_path / "f.gpkg")
    labels = open_labels(tmp_path / "f.gpkg", "kind", background="other")
    spec = dataclasses.replace(SPEC, classes=labels.classes)
    made = list(tile_units(chosen, RECIPE, 0, labels, "part")[0].chips(spec))
    assert [chip.sample.split for chip in made if chip.sample.affine[2::3] == (left, top)] == [""]
    assert {chip.sample.split for chip in made if chip.sample.affine[2::3] != (left, top)} == {"train"}
