"""The shipped catalog is STAC, and what it says is there."""

from __future__ import annotations

import json
from pathlib import Path

import pystac
import pystac.validation
import pytest
from pystac.validation import RegisteredValidator

from prithvi.catalog import config_path, data_catalog, dataset, dataset_names, sensor
from prithvi.errors import ConfigError, DatasetError

FILES = sorted(data_catalog().rglob("*.json"))
CLASSIFICATION = "https://stac-extensions.github.io/classification/v1.1.0/schema.json"


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_every_file_is_valid_stac(path: Path) -> None:
    pystac.validation.validate_dict(json.loads(path.read_text()), extensions=[])


def test_the_classes_follow_their_extension(shared: Path) -> None:
    schema = json.loads((shared.parent / "schemas" / "classification-v1.1.0.json").read_text())
    validator = RegisteredValidator.get_validator()
    validator.schema_cache[CLASSIFICATION] = schema  # type: ignore[attr-defined]
    plain = json.loads((data_catalog() / "sen1floods11" / "collection.json").read_text())
    assert CLASSIFICATION in plain["stac_extensions"]
    pystac.validation.validate_dict(plain, extensions=[CLASSIFICATION])
    plain["item_assets"]["label"]["classification:classes"][0]["color_hint"] = "blue"
    with pytest.raises(pystac.STACValidationError):
        pystac.validation.validate_dict(plain, extensions=[CLASSIFICATION])


def test_every_link_and_asset_leads_somewhere() -> None:
    for path in FILES:
        plain = json.loads(path.read_text())
        assets = [asset["href"] for asset in plain.get("assets", {}).values()]
        for href in [link["href"] for link in plain["links"]] + assets:
            assert (path.parent / href).is_file(), (path.name, href)


def test_names_are_found_or_the_nearest_are_told() -> None:
    assert dataset_names() == ["sen1floods11"]
    with pytest.raises(DatasetError, match="no dataset 'sen1flood': did you mean sen1floods11"):
        dataset("sen1flood")
    with pytest.raises(ConfigError, match=r"no sensor 'sentinel2-l1c': did you mean sentinel-2-l1c"):
        sensor("sentinel2-l1c")
    assert config_path("flood").is_file()
    with pytest.raises(ConfigError, match="no configuration 'floods' is shipped: did you mean flood"):
        config_path("floods")


def test_the_flood_statistics_are_the_published_ones() -> None:
    """Reflectance x 10,000, as hls-foundation-os has them for Sen1Floods11."""
    contract = dataset("sen1floods11").contract
    assert contract.mean == pytest.approx((1424.5495, 1392.1481, 1243.4631, 3142.0089, 2074.3526, 1204.6503))
    assert contract.std == pytest.approx((403.62310, 418.69830, 526.76460, 822.22100, 683.47740, 529.42050), abs=0.01)
    assert (contract.level, contract.scale) == ("TOA", 10_000)
