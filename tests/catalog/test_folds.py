"""hls_water by folds of its places, and agrifieldnet by groups of chips: no place and no field on both sides."""

from __future__ import annotations

import csv
import json
import warnings
import zlib
from collections import defaultdict
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

FOLDS = range(5)


def listed(part: str) -> dict[str, str]:
    """Chip to place."""
    text = (data_catalog() / "hls_water" / "splits" / f"{part}.txt").read_text()
    return dict(line.split(",") for line in text.split())


def chips_of(fold: int) -> dict[str, str]:
    return listed(f"fold{fold}") | listed(f"fold{fold}_rough")


def pixels(path: Path) -> np.ndarray:
    """Of a file that does not say where it lies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as raster:
            values: np.ndarray = raster.read()
    return values


def test_every_place_of_hls_water_is_in_one_fold() -> None:
    layout = dataset("hls_water")
    places = [set(chips_of(fold).values()) for fold in FOLDS]
    assert [len(found) for found in places] == [20] * 5
    assert len(set.union(*places)) == 100
    good, rough = (["+".join(f"fold{fold}{kind}" for fold in FOLDS)][0] for kind in ("", "_rough"))
    assert len(layout.chip_ids(good)) == 66
    assert len(set(layout.chip_ids(f"{good}+{rough}"))) == 152


def test_the_folds_follow_the_rule_that_the_catalog_says(shared: Path) -> None:
    with (shared / "hls_water" / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    water = defaultdict(list)
    for row in rows:
        water[row["place"]].append(float(row["label_water"]))
    order = sorted(water, key=lambda place: (np.mean(water[place]), place))
    dealt = [*FOLDS, *reversed(FOLDS)] * 10
    for fold in FOLDS:
        found = chips_of(fold)
        assert set(found.values()) == {place for place, to in zip(order, dealt, strict=True) if to == fold}
        assert found == {row["id"]: row["place"] for row in rows if row["place"] in found.values()}
        usable = {r["id"] for r in rows if float(r["iou_label_fmask"]) > 0.7 or float(r["label_water"]) < 0.001}
        assert set(listed(f"fold{fold}")) == set(found) & usable


def test_the_folds_have_alike_shares_of_water(shared: Path) -> None:
    root = shared / "hls_water"
    by_place, by_chip, good = [], [], []
    for fold in FOLDS:
        shares = defaultdict(list)
        for chip, place in chips_of(fold).items():
            shares[place].append(pixels(root / "labels" / f"{chip}.png").mean())
            if chip in listed(f"fold{fold}"):
                good.append((fold, shares[place][-1]))
        by_place.append(np.mean([np.mean(found) for found in shares.values()]))
        by_chip.append(np.mean(np.concatenate(list(shares.values()))))
    assert np.ptp(by_place) < 0.02
    assert np.ptp(by_chip) < 0.08
    assert np.ptp([np.mean([share for to, share in good if to == fold]) for fold in FOLDS]) < 0.08


def test_images_without_a_place_are_read_as_they_are(shared: Path) -> None:
    root = shared / "hls_water"
    part = ChipDataModule(
        str(root), "hls_water", crop=None, num_workers=0, train_split="fold2+fold3+fold4", val_split="fold1",
        test_split="fold0+fold0_rough",
    )  # fmt: skip
    part.setup("fit")
    part.setup("test")
    assert [len(part.datasets[name]) for name in ("train", "val", "test")] == [39, 10, 30]  # type: ignore[arg-type]
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
