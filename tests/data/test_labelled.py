"""Labelled chips of one's own folder and of a store, shares of them, rare classes drawn more often."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
import yaml
from click.testing import CliRunner
from rasterio.rio.main import main_group

from prithvi.bands import PRITHVI_BANDS
from prithvi.catalog import LabelClass
from prithvi.chips import ChipStore, StoreSpec
from prithvi.chips.spec import UNLABELLED, Sample
from prithvi.chips.spec import Chip as StoredChip
from prithvi.contract import IGNORE
from prithvi.data import ChipDataModule, StoreDataset
from prithvi.data.labelled import BalancedSampler
from prithvi.data.order import subset
from prithvi.errors import ConfigError, DatasetError
from tests.pages import printed_for

Write = Callable[..., Path]
FOLDER: dict[str, Any] = {
    "image": "images/{id}_*.tif", "label": "masks/{id}.tif", "bands": list(PRITHVI_BANDS), "sensor": "hls-s30",
    "classes": [{"value": 3, "name": "vine"}, {"value": 7, "name": "other", "color": "999999"}], "ignore": [0],
    "lists": {"train": "train.txt", "val": "val.txt"}, "mean": [500] * 6, "std": [100] * 6,
}  # fmt: skip

QUANTITY = {"name": "biomass", "mean": 50.0, "std": 25.0, "unit": "t"}


@pytest.fixture
def folder(write_tif: Write, tmp_path: Path) -> Path:
    """Four chips with dates in their names, masks of 0 (nothing), 3 and 7, and of a quantity; lists of two parts."""
    generator = np.random.default_rng(0)
    for name in ("images", "masks", "biomass"):
        (tmp_path / name).mkdir()
    for number in range(4):
        pixels = generator.integers(100, 900, (6, 32, 32)).astype(np.int16)
        write_tif(pixels, f"images/tile_{number}_2022145.tif", names=None)
        mask = np.full((1, 32, 32), 7, np.uint8)
        mask[0, :4] = 3
        mask[0, 4, :2] = 0
        write_tif(mask, f"masks/tile_{number}.tif", names=None)
        mass = (pixels[3:4] / 10).astype(np.float32)
        mass[0, 0, 0] = -1
        write_tif(mass, f"biomass/tile_{number}.tif", names=None, nodata=-1)
    (tmp_path / "train.txt").write_text("tile_0\ntile_1\ntile_2\n")
    (tmp_path / "val.txt").write_text("tile_3\n")
    with (tmp_path / "scenes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("chip", "kind"), *((f"tile_{n}", ("vine", "7")[n % 2]) for n in range(4))])
    return tmp_path


def module(folder: Path, options: dict[str, Any] | None = None, **more: Any) -> ChipDataModule:
    return ChipDataModule(str(folder), folder=options or FOLDER, num_workers=0, **{"crop": 16, **more})


def test_a_folder_of_ones_own_is_read_as_it_was_described(folder: Path) -> None:
    data = module(folder, batch_size=2)
    assert data.classes == ["vine", "other"]
    assert data.colors is None  # one is not known, so the task draws all
    assert data.quantity is None
    assert data.contract.mean == (500.0,) * 6
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (2, 6, 1, 16, 16)
    (whole,) = list(data.val_dataloader())
    assert (whole["label"] == 0).sum() == 4 * 32
    assert (whole["label"] == IGNORE).sum() == 2


def test_nothing_is_opened_before_it_is_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = rasterio.open

    def counting(path: Any, *more: Any, **options: Any) -> Any:
        opened.append(Path(path).name)
        return real(path, *more, **options)

    monkeypatch.setattr("prithvi.data.chips.rasterio.open", counting)
    data = module(folder, batch_size=1, balance=True)
    data.setup("fit")
    assert not opened
    next(iter(data.train_dataloader()))
    assert len(opened) == 2  # an image and its mask


def test_a_quantity_is_a_number_and_its_nodata_nothing(folder: Path) -> None:
    options = {
        **FOLDER,
        "label": "biomass/{id}.tif",
        "quantity": {"name": "biomass", "mean": 50, "std": 25, "unit": "t"},
    }
    del options["classes"], options["ignore"]
    data = module(folder, options)
    assert data.classes is None
    assert data.quantity == QUANTITY
    data.setup("fit")
    (whole,) = list(data.val_dataloader())
    assert whole["target"].isnan().sum() == 1
    expected = whole["image"][0, 3, 0].float() / 10
    there = whole["target"][0].isfinite()
    torch.testing.assert_close(whole["target"][0][there], expected[there])


def test_a_class_of_the_whole_chip_comes_from_a_table(folder: Path) -> None:
    options = {**FOLDER, "table": ["scenes.csv", "chip", "kind"]}
    del options["label"]
    data = module(folder, options)
    data.setup("fit")
    assert [int(sample["label"]) for sample in data.datasets["train"]] == [0, 1, 0]  # type: ignore[attr-defined]
    (folder / "scenes.csv").write_text("chip,kind\ntile_0,vine\ntile_1,rose\ntile_2,7\n")
    with pytest.raises(DatasetError, match=r"has the class 'rose' for tile_1; .* has 3 \(vine\), 7 \(other\)"):
        module(folder, options).setup("fit")
    (folder / "scenes.csv").write_text("chip,kind\ntile_0,vine\n")
    with pytest.raises(DatasetError, match=r"scenes.csv says no class of tile_1, tile_2"):
        module(folder, options).setup("fit")


def test_what_does_not_fit_is_said_before_any_pixel_is_read(folder: Path, write_tif: Write) -> None:
    write_tif(np.zeros((6, 32, 32), np.int16), "images/tile_1_2022150.tif")
    with pytest.raises(
        DatasetError, match=r"one name of the train split .* fits images/tile_1_2022145.tif, images/tile_1_2022150"
    ):
        module(folder).setup("fit")
    (folder / "images" / "tile_1_2022150.tif").unlink()
    (folder / "masks" / "tile_0.tif").unlink()
    (folder / "masks" / "tile_2.tif").unlink()
    with pytest.raises(DatasetError, match=r"2 of the 6 files .*: masks/tile_0.tif, masks/tile_2.tif\.") as error:
        module(folder).setup("fit")
    assert "tile_1" not in str(error.value)
    (folder / "train.txt").write_text("tile_1\ntile_1\n")
    with pytest.raises(DatasetError, match=r"train split of .* names tile_1 more than once"):
        module(folder).setup("fit")
    (folder / "train.txt").write_text("\n")
    with pytest.raises(DatasetError, match="the list of the train split is empty"):
        module(folder).setup("fit")
    with pytest.raises(ConfigError, match=r"data.folder has no 'imge': did you mean image"):
        module(folder, {**FOLDER, "imge": "x"})
    with pytest.raises(ConfigError, match=r"data.folder lacks sensor"):
        module(folder, {key: value for key, value in FOLDER.items() if key != "sensor"})
    with pytest.raises(DatasetError, match="leaves open which part is the chip's name: give lists"):
        module(folder, {key: value for key, value in FOLDER.items() if key != "lists"})
    with pytest.raises(DatasetError, match="no chip store: say what it holds"):
        ChipDataModule(str(folder))
    with pytest.raises(DatasetError, match="std is missing: give both mean and std"):
        module(folder, {key: value for key, value in FOLDER.items() if key != "std"})
    quantity = {key: value for key, value in FOLDER.items() if key != "classes"} | {"quantity": QUANTITY}
    with pytest.raises(ConfigError, match=r"data.balance draws classes alike; these labels are a quantity"):
        module(folder, quantity, balance=True)
    with pytest.raises(ConfigError, match=r"data.fraction is 2"):
        module(folder, fraction=2)


def test_a_label_on_another_grid_is_refused(folder: Path, write_tif: Write) -> None:
    from rasterio.transform import from_origin

    mask = np.full((1, 32, 32), 7, np.uint8)
    for name, options, told in (
        (
            "shifted",
            {"transform": from_origin(600_010, 4_200_000, 10, 10)},
            "image and label do not lie on one grid: their corners lie up to 1 pixels apart",
        ),
        (
            "zone",
            {"crs": "EPSG:32631"},
            r"do not lie on one grid: .* EPSG:32630 \(WGS 84 / UTM zone 30N\) and EPSG:32631",
        ),
    ):
        write_tif(mask, "masks/tile_3.tif", names=None, **options)
        data = module(folder)
        data.setup("fit")
        with pytest.raises(DatasetError, match=told):
            list(data.val_dataloader())
        assert name


def test_a_label_in_degrees_is_compared_at_its_far_corner(
    folder: Path, write_tif: Write, six_bands: np.ndarray
) -> None:
    """5 pixels over 512 are less than a millionth of a degree a pixel."""
    from affine import Affine

    at = Affine(9e-5, 0, -1.9, 0, -9e-5, 37.9)
    write_tif(six_bands, "images/tile_3_2022145.tif", names=None, crs="EPSG:4326", transform=at)
    for factor, shift, told in (
        (1, 1e-9, None), (1 + 1e-10, 0, None), (1 + 5 / 512, 0, "their pixels measure|up to 5 pixels apart"),
        (1, 9e-7, "up to 0.01 pixels apart"),
    ):  # fmt: skip
        moved = Affine.translation(shift, 0) @ at @ Affine.scale(factor)
        mask = np.full((1, 512, 512), 7, np.uint8)
        write_tif(mask, "masks/tile_3.tif", names=None, crs="OGC:CRS84", transform=moved)
        data = module(folder)
        data.setup("fit")
        if told is None:
            assert len(list(data.val_dataloader())) == 1
        else:
            with pytest.raises(DatasetError, match=f"image and label do not lie on one grid: .*({told})"):
                list(data.val_dataloader())


def test_a_labelled_store_is_trained_on_as_it_is(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    classes = (LabelClass(0, "land", "E8E4D0"), LabelClass(1, "water", "2B6CB0"))
    chips = []
    for number in range(12):
        label = generator.integers(0, 2, (24, 24)).astype(np.uint8)
        label[0] = UNLABELLED
        image = np.broadcast_to((100 + label.astype(np.int16) * 10), (1, 6, 24, 24)).copy()
        affine = (30.0, 0.0, 500_000.0, 0.0, -30.0, 4_000_000.0)
        split = "val" if number > 3 else "train"
        sample = Sample(
            f"chip {number}", "EPSG:32630", affine, 36.1, -3.0, (None,), ("g",), split=split, good=(1.0,), filled=(0,)
        )
        chips.append(StoredChip(image, sample, None, label))
    ChipStore.create(tmp_path / "a.zarr", StoreSpec(24, 24, fmask=False, classes=classes), chips)
    data = ChipDataModule(str(tmp_path / "a.zarr"), crop=8, num_workers=0)
    assert data.classes == ["land", "water"]
    assert data.contract.resolution == 30
    data.setup("fit")
    seen = list(data.train_dataloader())
    assert sum(len(batch["image"]) for batch in seen) == 4
    for batch in seen:
        assert batch["image"].shape[-2:] == batch["label"].shape[-2:] == batch["valid"].shape[-2:] == (8, 8)
        there = batch["label"] != IGNORE  # images and labels were cut alike
        assert torch.equal(batch["image"][:, 0, 0][there].long(), 100 + 10 * batch["label"][there].long())
    assert next(iter(data.val_dataloader()))["image"].shape[-2:] == (24, 24)
    halves = [StoreDataset(tmp_path / "a.zarr", half).indices for half in ("val_half", "test_half")]
    assert sorted(halves[0] + halves[1]) == list(range(4, 12))
    whole = StoreDataset(tmp_path / "a.zarr", "train")
    assert whole.identity == StoreDataset(tmp_path / "a.zarr", "train").identity
    assert whole.identity != StoreDataset(tmp_path / "a.zarr", "val").identity


def test_smaller_shares_are_parts_of_larger_ones(folder: Path) -> None:
    for seed in range(3):
        parts = [set(subset(100, fraction, seed)) for fraction in (0.01, 0.1, 0.25, 0.5, 1.0)]
        assert [len(part) for part in parts] == [1, 10, 25, 50, 100]
        assert all(small < large for small, large in pairwise(parts))
    assert subset(100, 0.1, 0) != subset(100, 0.1, 1)
    data = module(folder, fraction=0.67)
    data.setup("fit")
    assert len(data.datasets["train"]) == 2  # type: ignore[arg-type]


def test_rare_classes_are_drawn_until_they_have_their_share() -> None:
    torch.manual_seed(0)
    labels = torch.zeros(50, 4, 4, dtype=torch.long)
    labels[:, 0, 0] = IGNORE
    labels[7] = 1
    labels[8, 0] = 1
    sampler = BalancedSampler(50, 3)  # the third class does not occur
    first = list(sampler)
    assert sorted(first) == list(range(50))  # nothing was counted
    sampler.see(torch.arange(50), labels)
    weights = sampler.weights()
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0, dtype=torch.float64))
    drawn = torch.tensor([place for _ in range(40) for place in sampler])
    assert weights[7] > 0.35
    assert float((drawn == 7).double().mean()) == pytest.approx(float(weights[7]), abs=0.03)
    assert float((drawn == 3).double().mean()) == pytest.approx(float(weights[3]), abs=0.01)
    for _ in range(30):  # what is drawn more often does not weigh more for that
        sampler.see(torch.tensor([7]), labels[7:8])
    torch.testing.assert_close(sampler.weights(), weights)


def test_what_was_not_seen_comes_first_and_what_shows_no_label_seldom() -> None:
    torch.manual_seed(0)
    sampler = BalancedSampler(20, 2)
    labels = torch.zeros(10, 4, 4, dtype=torch.long)
    labels[5:, :2] = 1
    labels[0] = IGNORE
    sampler.see(torch.arange(10), labels)
    order = list(sampler)
    assert sorted(order[:10]) == list(range(10, 20))
    assert set(order[10:]) <= set(range(10)) | set(range(10, 20))
    sampler.see(torch.arange(10, 20), labels)
    assert 0 < sampler.weights()[0] < 0.2 * sampler.weights()[3]


def test_what_training_saw_is_counted_and_kept(folder: Path) -> None:
    data = module(folder, balance=True)
    data.setup("fit")
    for batch in data.train_dataloader():
        data.on_before_batch_transfer(batch, 0)
    assert data.sampler is not None
    assert (data.sampler.counts.sum(dim=1) > 0).all()
    again = module(folder, balance=True)
    again.setup("fit")
    again.load_state_dict(data.state_dict())
    assert again.sampler is not None
    assert torch.equal(again.sampler.counts, data.sampler.counts)
    assert torch.equal(again.sampler.views, torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ([{"value": 3, "name": "a"}, {"value": 3, "name": "b"}], r"the classes 3 \('a'\) and 3 \('b'\)"),
        ([{"value": 3, "name": "Vine"}, {"value": 7, "name": "vine "}], "case and blanks make no other name"),
        ([{"value": 0, "name": "a"}, {"value": 7, "name": "b"}], r"has the class 0 \(a\) and ignores 0: say one"),
        ([{"value": 1.5, "name": "a"}], r"a label's value is a whole number; found 1\.5"),
        ([{"value": True, "name": "a"}], "a label's value is a whole number; found True"),
        ([{"value": "many", "name": "a"}], "a label's value is a whole number; found 'many'"),
    ],
)
def test_classes_that_cannot_be_told_apart_are_refused(folder: Path, classes: list[Any], told: str) -> None:
    with pytest.raises((DatasetError, ConfigError), match=told):
        module(folder, {**FOLDER, "classes": classes})


def test_values_may_be_written_as_yaml_likes(folder: Path) -> None:
    classes = [{"value": "3", "name": "vine"}, {"value": 7.0, "name": "other"}]
    data = module(folder, {**FOLDER, "classes": classes, "ignore": ["0"]})
    assert data.values == [3, 7]


def test_a_mask_whose_nodata_is_a_class_is_refused_and_the_remedy_works(folder: Path) -> None:
    """A profile that was copied along: 7 is a class, and the tag says that it is nothing."""
    path = folder / "masks" / "tile_3.tif"
    with rasterio.open(path, "r+") as raster:
        raster.nodata = 7
    data = module(folder)
    data.setup("fit")
    with pytest.raises(DatasetError, match=r"says that 7 is nodata, and .* says that it is the class other") as refusal:
        next(iter(data.val_dataloader()))
    (command,) = re.findall(r"\(rio (edit-info [^)]*)\)", str(refusal.value))
    done = CliRunner().invoke(main_group, shlex.split(command))
    assert done.exit_code == 0, done.output
    (whole,) = list(data.val_dataloader())
    assert (whole["label"] == 1).sum() == 32 * 32 - 4 * 32 - 2


def test_the_folder_that_the_page_prints_is_read(write_tif: Write, tmp_path: Path) -> None:
    """docs/finetuning.md: three dates in a file, all bands of the first one first, and a class at every pixel."""
    (block,) = printed_for("tests/data/test_labelled.py", "finetuning.md")
    settings = yaml.safe_load(block.code)["data"]
    assert settings["class_path"] == "prithvi.data.ChipDataModule"
    options = settings["init_args"]
    root = tmp_path / options.pop("root")
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    pixels = np.arange(18, dtype=np.int16)[:, None, None] * 100 + np.ones((18, 32, 32), np.int16)
    dates = [f"{day} {band}" for day in ("2022-05-01", "2022-06-01", "2022-07-01") for band in PRITHVI_BANDS]
    for name in ("one", "two", "three"):
        write_tif(pixels, f"vineyards/images/{name}_x.tif", names=dates)
        mask = np.full((1, 32, 32), 255, np.uint8)
        mask[0, :4], mask[0, 4:8] = 0, 1
        write_tif(mask, f"vineyards/masks/{name}.tif", names=None, scale=None)
    for part, name in (("train", "one"), ("val", "two"), ("test", "three")):
        (root / f"{part}.txt").write_text(name)
    data = ChipDataModule(str(root), **options, num_workers=0, crop=None)
    assert data.classes == ["other", "vine"]
    data.setup("fit")
    sample = next(iter(data.train_dataloader()))
    assert sample["image"].shape == (1, 6, 3, 32, 32)
    assert data.contract.mean == tuple(options["folder"]["mean"])
    np.testing.assert_allclose(sample["image"][0, :, :, 0, 0], pixels[:, 0, 0].reshape(3, 6).T, atol=0.01)  # band, date
    assert sorted(sample["label"].unique().tolist()) == [IGNORE, 0, 1]
