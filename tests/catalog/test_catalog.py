"""The shipped catalog is STAC, and what it says is there."""

from __future__ import annotations

import json
from pathlib import Path

import pystac
import pystac.validation
import pytest
from pystac.validation import RegisteredValidator

from prithvi.catalog import config_path, data_catalog, dataset, dataset_names, folder_layout, sensor
from prithvi.cli.data.stores import describe
from prithvi.errors import BandError, ConfigError, DatasetError

FILES = sorted(data_catalog().rglob("*.json"))
NAMES = ["agrifieldnet", "cloud_gaps", "hls_burn_scars", "hls_water", "multi_temporal_crops", "sen1floods11"]
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
    assert dataset_names() == NAMES
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


SIX = ("blue", "green", "red", "nir_narrow", "swir_1", "swir_2")


def test_the_statistics_of_every_dataset_are_the_published_ones() -> None:
    """Facts 4.1 and 4.2, in reflectance x 10,000."""
    burn = dataset("hls_burn_scars").contract
    assert burn.mean[:3] == pytest.approx((333.49706741586264, 570.1185520536176, 588.9748132001316), rel=1e-12)
    assert burn.mean[3:] == pytest.approx((2323.245113436119, 1972.854853760658, 1194.4914225186566), rel=1e-12)
    assert burn.std[:3] == pytest.approx((226.9135568823774, 268.07560223070237, 400.4109844362779))
    assert burn.std[3:] == pytest.approx((779.1732423672691, 870.8738838140137, 724.1979477437814))
    crops = dataset("multi_temporal_crops").contract
    assert crops.mean == pytest.approx((494.905781, 815.239594, 924.335066, 2968.881459, 2634.621962, 1739.579917))
    assert crops.std == pytest.approx((284.925432, 357.84876, 575.566823, 896.601013, 951.900334, 921.407808))
    gaps = dataset("cloud_gaps").contract
    assert gaps.mean == pytest.approx((495.7316, 814.1386, 924.5740, 2962.5623, 2640.8833, 1740.3031))
    assert gaps.std == pytest.approx((286.9569, 359.3304, 576.3471, 892.2656, 945.9432, 916.1625))
    for name in ("hls_burn_scars", "multi_temporal_crops", "cloud_gaps"):
        assert dataset(name).bands == dataset(name).contract.bands == SIX


def test_official_lists_have_their_published_lengths() -> None:
    assert [len(dataset("multi_temporal_crops").chip_ids(part)) for part in ("train", "val")] == [3083, 771]
    counts = {part: len(dataset("sen1floods11").chip_ids(part)) for part in ("train", "val", "test", "bolivia")}
    assert counts == {"train": 252, "val": 89, "test": 90, "bolivia": 15}
    assert [entry.name for entry in dataset("multi_temporal_crops").classes][::12] == ["natural vegetation", "other"]
    assert dataset("multi_temporal_crops").ignore == (0,)
    assert (dataset("multi_temporal_crops").frames, dataset("multi_temporal_crops").order) == (3, "time-major")


@pytest.mark.parametrize("name", NAMES)
def test_every_dataset_is_described_in_words(name: str) -> None:
    rows = describe(name)
    assert rows["dataset"].startswith(name)
    assert len(rows["statistics"]) == 6
    assert {"what", "files", "bands", "order", "values", "parts", "licence", "cite", "hub"} <= rows.keys()
    assert json.dumps(rows)


def test_a_dataset_that_lists_its_chips_in_its_archive_asks_for_it(tmp_path: Path) -> None:
    layout = dataset("hls_burn_scars")
    with pytest.raises(DatasetError, match="lists the chips of its val split in its own archive: give its folder"):
        layout.chip_ids("val")
    with pytest.raises(DatasetError, match="the list of the train split is empty"):
        layout.chip_ids("train", root=tmp_path)
    with pytest.raises(DatasetError, match="the table of the train split is not there"):
        dataset("cloud_gaps").chip_ids("train", root=tmp_path)
    (tmp_path / "chip_catalog.csv").write_text("chip,usage\na,train\n")
    with pytest.raises(DatasetError, match="has no column chip_id; it has chip, usage"):
        dataset("cloud_gaps").chip_ids("train", root=tmp_path)


def test_nothing_about_a_folder_is_guessed() -> None:
    with pytest.raises(DatasetError, match=r"files of 3 dates of 6 bands: say order= time-major"):
        folder_layout("{id}.tif", bands=SIX, sensor="hls-l30", frames=3)
    with pytest.raises(DatasetError, match="masks were given and no classes"):
        folder_layout("{id}.tif", "{id}_mask.tif", bands=SIX, sensor="hls-l30")
    with pytest.raises(DatasetError, match="does not say where the chip's name stands"):
        folder_layout("image.tif", bands=SIX, sensor="hls-l30")
    with pytest.raises(BandError, match="there is no band 'nir'"):
        folder_layout("{id}.tif", bands=("blue", "nir"), sensor="hls-l30")
