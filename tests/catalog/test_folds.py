"""hls_water by folds of its sites, and agrifieldnet by groups of chips: no ground and no field on both sides."""

from __future__ import annotations

import csv
import json
import warnings
import zlib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning

from prithvi.catalog import data_catalog, dataset
from prithvi.chips import ChipStore, StoreSpec
from prithvi.chips.spec import Chip, Sample
from prithvi.data import ChipDataModule
from prithvi.errors import DatasetError
from tests.catalog.test_layouts import burn_scars
from tests.conftest import benchmark

FOLDS = range(5)


def listed(part: str) -> dict[str, tuple[str, str]]:
    """Chip to place and site."""
    lines = (data_catalog() / "hls_water" / "splits" / f"{part}.txt").read_text().split()
    return {chip: (place, site) for chip, place, site in (line.split(",") for line in lines)}


def chips_of(fold: int) -> dict[str, tuple[str, str]]:
    return listed(f"fold{fold}") | listed(f"fold{fold}_rough")


def pixels(path: Path) -> np.ndarray:
    """Of a file that does not say where it lies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as raster:
            values: np.ndarray = raster.read()
    return values


def test_every_place_and_every_site_of_hls_water_is_in_one_fold() -> None:
    layout = dataset("hls_water")
    for kind, many in enumerate((100, 57)):
        found = [{facts[kind] for facts in chips_of(fold).values()} for fold in FOLDS]
        assert sum(len(names) for names in found) == len(set.union(*found)) == many
    good, rough = ("+".join(f"fold{fold}{kind}" for fold in FOLDS) for kind in ("", "_rough"))
    assert len(layout.chip_ids(good)) == 66
    assert len(set(layout.chip_ids(f"{good}+{rough}"))) == 152


@pytest.fixture(scope="module")
def index(shared: Path) -> dict[str, dict[str, str]]:
    with (shared / "hls_water" / "index.csv").open(newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def test_sites_are_dealt_as_the_catalog_says(index: dict[str, dict[str, str]]) -> None:
    facts = {chip: (*names, fold) for fold in FOLDS for chip, names in chips_of(fold).items()}
    site = {place: site for place, site, _ in facts.values()}
    fold_of = benchmark("hls_water_folds").dealt(list(index.values()), site)
    assert fold_of == {site: fold for _, site, fold in facts.values()}


@pytest.mark.slow
def test_the_lists_are_those_of_the_script_that_the_catalog_names(shared: Path) -> None:
    for part, lines in benchmark("hls_water_folds").lists(shared / "hls_water").items():
        assert (data_catalog() / "hls_water" / "splits" / f"{part}.txt").read_text().split() == lines


def test_chips_are_usable_by_their_agreement_with_fmask_or_as_dry(index: dict[str, dict[str, str]]) -> None:
    for fold in FOLDS:
        found = chips_of(fold)
        assert {chip: place for chip, (place, _) in found.items()} == {
            chip: row["place"] for chip, row in index.items() if chip in found
        }
        usable = {
            chip for chip in found
            if float(index[chip]["iou_label_fmask"]) > 0.7 or float(index[chip]["label_water"]) < 0.001
        }  # fmt: skip
        assert set(listed(f"fold{fold}")) == usable


def test_the_folds_have_alike_shares_of_water(shared: Path) -> None:
    shares = [
        [pixels(shared / "hls_water" / "labels" / f"{chip}.png").mean() for chip in chips_of(fold)] for fold in FOLDS
    ]
    assert np.ptp([len(found) for found in shares]) <= 3
    assert np.ptp([np.mean(found) for found in shares]) < 0.07
    assert min(sum(share < 0.001 for share in found) for found in shares) >= 2


def test_chips_of_two_folds_share_no_ground_but_the_strip_of_their_grid(shared: Path) -> None:
    """Pixels of one date tell it exactly: the values of six bands seldom meet by chance."""
    key = np.random.default_rng(1).integers(1, 2**62, 6)
    fold_of = {chip: fold for fold in FOLDS for chip in chips_of(fold)}
    keys = {
        chip: key @ pixels(shared / "hls_water" / "images" / f"{chip}.tif")[:6].reshape(6, -1).astype(np.int64)
        for chip in fold_of
    }
    values = np.concatenate(list(keys.values()))
    owners = np.repeat(np.array([int(chip) for chip in keys]), 128 * 128)[np.argsort(values, kind="stable")]
    same = np.flatnonzero(np.diff(np.sort(values)) == 0)
    pairs = Counter(zip(owners[same].tolist(), owners[same + 1].tolist(), strict=True))
    across = {pair: count for pair, count in pairs.items() if len({fold_of[str(chip)] for chip in pair}) > 1}
    assert across
    assert max(across.values()) <= 0.1 * 128 * 128
    assert max(pairs.values()) > 0.5 * 128 * 128  # which places of the index, not kept together, would share


def test_images_without_a_place_are_read_as_they_are(shared: Path) -> None:
    root = shared / "hls_water"
    part = ChipDataModule(
        str(root), "hls_water", crop=None, num_workers=0, train_split="fold2+fold3+fold4", val_split="fold1",
        test_split="fold0+fold0_rough",
    )  # fmt: skip
    part.setup("fit")
    part.setup("test")
    assert [len(part.datasets[name]) for name in ("train", "val", "test")] == [37, 12, 29]  # type: ignore[arg-type]
    sample = part.datasets["test"][0]
    np.testing.assert_array_equal(sample["image"][:, 0], pixels(root / "images" / f"{sample['id']}.tif")[:6])
    np.testing.assert_array_equal(sample["label"], pixels(root / "labels" / f"{sample['id']}.png")[0])
    assert torch.isnan(sample["location_coords"]).all()
    assert torch.isnan(sample["temporal_coords"]).all()


def test_bytes_of_agrifieldnet_keep_their_own_scale(shared: Path) -> None:
    root = shared / "agrifieldnet_india"
    data = ChipDataModule(str(root), "agrifieldnet", crop=None, num_workers=0)
    data.setup("test")
    sample = data.datasets["test"][0]
    with rasterio.open(root / f"{sample['id']}.tif") as raster:
        np.testing.assert_allclose(sample["image"][:, 0], raster.read(), atol=1e-4)
    with rasterio.open(root / f"{sample['id']}_labels.tif") as raster:
        codes = raster.read(1)
    values = np.array(data.values)
    np.testing.assert_array_equal(values[sample["label"][codes > 0]], codes[codes > 0])
    assert (sample["label"][codes == 0] == -1).all()


def test_no_field_of_agrifieldnet_is_in_two_parts(shared: Path) -> None:
    layout, fields, groups = dataset("agrifieldnet"), defaultdict(set), {}
    part = {chip: name for name in ("train", "val", "test") for chip in layout.chip_ids(name)}
    for chip in part:
        with rasterio.open(shared / "agrifieldnet_india" / f"{chip}_field_ids.tif") as raster:
            for field in np.unique(raster.read(1)):
                fields[int(field)].add(chip)
    del fields[0]
    assert (len(part), len(fields), sum(len(chips) > 1 for chips in fields.values())) == (315, 2418, 35)
    assert all(len({part[chip] for chip in chips}) == 1 for chips in fields.values())
    for chips in fields.values():
        for chip in chips:
            groups[chip] = min(*chips, groups.get(chip, chip))
    for chip, first in groups.items():
        assert part[chip] == {0: "test", 1: "val"}.get(zlib.crc32(first.encode()) % 5, "train")


def test_parts_are_joined_by_a_plus_sign(tmp_path: Path) -> None:
    layout = dataset("hls_burn_scars")
    chips = layout.chips(burn_scars(tmp_path), "train+val")
    assert [chip.image.parent.name for chip in chips] == ["training", "training", "validation"]
    assert [chip.dates is not None for chip in chips] == [True] * 3
    lists = tmp_path / "lists"
    lists.mkdir()
    for name in ("train", "val"):
        (lists / f"{name}_split.txt").write_text("S2_1\n")
    with pytest.raises(DatasetError, match="names S2_1 more than once"):
        dataset("sen1floods11").chips(tmp_path, "train+val", lists)
    with pytest.raises(DatasetError, match="has no split 'vall': did you mean val"):
        layout.chip_ids("train+vall", root=tmp_path)


def test_parts_of_a_store_are_joined_too(tmp_path: Path) -> None:
    def chip(name: str, split: str) -> Chip:
        sample = Sample(
            name, "", (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), np.nan, np.nan, (None,), ("",), "", split, (1.0,), (0,)
        )
        return Chip(np.zeros((1, 6, 4, 4), np.int16), sample)

    chips = [chip("a", "fold0"), chip("b", "fold1"), chip("c", "fold0"), chip("d", "fold2")]
    store = ChipStore.create(tmp_path / "s.zarr", StoreSpec(4, 4, fmask=False), chips)
    assert store.indices("fold1+fold0") == [1, 0, 2]
    with pytest.raises(DatasetError, match=r"fold1\+fold1 names chips more than once"):
        store.indices("fold1+fold1")
    with pytest.raises(DatasetError, match="has no part 'fold3'"):
        store.indices("fold0+fold3")


def test_the_catalog_copies_nothing_of_a_set_without_a_licence() -> None:
    folder = data_catalog() / "hls_water"
    assert {file.suffix for file in folder.rglob("*") if file.is_file()} == {".json", ".txt"}
    plain = json.loads((folder / "collection.json").read_text())
    assert plain["license"] == "other"
    assert "without stating a licence" in plain["providers"][-1]["name"]
