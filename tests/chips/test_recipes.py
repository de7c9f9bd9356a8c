"""Public layouts and folders into stores: the right band of the right date, the right class, official parts kept."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from prithvi.catalog import DatasetLayout, LabelClass, data_catalog, dataset, folder_layout
from prithvi.chips import verify
from prithvi.chips.recipes import store_of_dataset
from prithvi.contract import Quantity
from prithvi.data import StoreDataset
from prithvi.errors import BandError, DatasetError

SIX = ("blue", "green", "red", "nir_narrow", "swir_1", "swir_2")


def write(path: Path, pixels: np.ndarray, **more: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff", "count": pixels.shape[0], "height": pixels.shape[1], "width": pixels.shape[2],
        "dtype": pixels.dtype, "crs": "EPSG:32610", "transform": from_origin(600_000, 4_200_000, 30, 30), **more,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(pixels)


def test_sen1floods11_with_its_parts(tmp_path: Path, six_bands: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole chips of 512 x 512 and 13 bands; -1 is unlabelled; the part is the official list's."""
    samples = data_catalog() / "sen1floods11" / "samples"
    layout = dataset("sen1floods11")
    monkeypatch.setattr(type(layout), "chip_ids", lambda *_: ["Spain_7370579"])
    store = store_of_dataset(layout, samples, tmp_path / "f.zarr", splits=["test"])
    assert (len(store), store.spec.height, store.spec.level) == (1, 512, "TOA")
    found = store.read([0])
    np.testing.assert_array_equal(found["image"][0, 0], six_bands)
    with rasterio.open(samples / "LabelHand" / "Spain_7370579_LabelHand.tif") as raster:
        label = raster.read(1)
    np.testing.assert_array_equal(found["label"][0], np.where(label == -1, 255, label))
    row = store.samples.iloc[0]
    assert (row["name"], row["split"], row["crs"]) == ("Spain_7370579", "test", "EPSG:4326")
    assert row["times"] == (None,)
    with rasterio.open(samples / "S2Hand" / "Spain_7370579_S2Hand.tif") as raster:
        assert row["affine"] == tuple(raster.transform)[:6]
    assert verify(store.path).problems == []


def test_burn_scars_come_from_their_folders_as_digital_numbers_with_their_date(
    tmp_path: Path, six_bands: np.ndarray
) -> None:
    root = tmp_path / "burn"
    names = {
        "training": "subsetted_512x512_HLS.S30.T10SGD.2018257.v1.4",
        "validation": "subsetted_512x512_HLS.S30.T11TPF.2018289.v1.4",
    }
    for folder, name in names.items():
        pixels = (six_bands[:, :64, :64] / 10_000).astype(np.float32)
        pixels[:, 0, 0] = -9999
        write(root / folder / f"{name}_merged.tif", pixels)
        mask = np.zeros((1, 64, 64), np.int16)
        mask[0, :2] = 1
        mask[0, 5] = -1
        write(root / folder / f"{name}.mask.tif", mask)
    store = store_of_dataset("hls_burn_scars", root, tmp_path / "b.zarr")
    assert store.attributes["samples"] == {"train": 1, "val": 1}
    found = store.read([0])
    expected = six_bands[:, :64, :64].copy()
    expected[:, 0, 0] = -9999
    np.testing.assert_array_equal(found["image"][0, 0], expected)
    assert (found["label"][0, :2] == 1).all()
    assert (found["label"][0, 5] == 255).all()
    assert [str(time.date()) for time in store.samples["times"].str[0]] == ["2018-09-14", "2018-10-16"]


def stacked(six_bands: np.ndarray, order: str) -> tuple[np.ndarray, np.ndarray]:
    """(time, band, y, x) of three dates, and the file of 18 bands that holds it."""
    image = np.stack([six_bands[:, :32, column : column + 32] for column in (0, 100, 200)])
    return image, (image if order == "time-major" else image.swapaxes(0, 1)).reshape(18, 32, 32)


def test_crops_are_time_major_and_zero_is_no_class(
    tmp_path: Path, six_bands: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order that TerraTorch read the other way round for a year (terratorch issue 1080)."""
    root, (image, file) = tmp_path / "crops", stacked(six_bands, "time-major")
    write(root / "training_chips" / "chip_257_266_merged.tif", file)
    label = np.arange(14, dtype=np.uint8)[np.arange(1024) % 14].reshape(1, 32, 32)
    write(root / "training_chips" / "chip_257_266.mask.tif", label)
    with (root / "chips_df.csv").open("w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(["chip_id", "first_img_date", "middle_img_date", "last_img_date"])
        writer.writerow(["chip_257_266", "2022-03-25", "2022-06-13", "2022-09-01"])
    layout = dataset("multi_temporal_crops")
    monkeypatch.setattr(type(layout), "chip_ids", lambda *_: ["chip_257_266"])
    store = store_of_dataset(layout, root, tmp_path / "c.zarr", splits=["train"])
    found = store.read([0])
    np.testing.assert_array_equal(found["image"][0], image)
    np.testing.assert_array_equal(found["label"][0], np.where(label[0] == 0, 255, label[0] - 1))
    assert [str(time.date()) for time in store.samples["times"].iloc[0]] == ["2022-03-25", "2022-06-13", "2022-09-01"]
    assert len(store.spec.classes) == 13


def test_cloud_gap_chips_come_from_their_table(tmp_path: Path, six_bands: np.ndarray) -> None:
    root, (image, file) = tmp_path / "gaps", stacked(six_bands, "time-major")
    days = ("2022-04-01", "2022-06-10", "2022-08-29")
    rows = [
        ("chip_1", "train", 1, 0),
        ("chip_2", "validate", 0, 0),
        ("chip_3", "train", 7.5, 0),
        ("chip_4", "train", 0, 3),
    ]
    for name, usage, *_ in rows:
        write(root / {"train": "train", "validate": "test"}[usage] / "hls_chips" / f"{name}.tif", file)
    columns = (
        "chip_id",
        "usage",
        "bad_pct_max",
        "na_count",
        "first_image_date",
        "second_image_date",
        "third_image_date",
    )
    with (root / "chip_catalog.csv").open("w", newline="") as table:
        csv.writer(table).writerows([columns, *((*row, *days) for row in rows)])
    store = store_of_dataset("cloud_gaps", root, tmp_path / "g.zarr")
    assert store.samples["name"].tolist() == ["chip_1", "chip_2"]  # 3 has too many bad pixels, 4 holes
    assert store.samples["split"].tolist() == ["train", "val"]
    np.testing.assert_array_equal(store.read([0])["image"][0], image)
    assert set(store.read([0])) == {"image"}
    assert tuple(str(time.date()) for time in store.samples["times"].iloc[0]) == days


@pytest.mark.parametrize("order", ["time-major", "band-major"])
def test_any_folder_is_read_in_the_order_that_is_stated(tmp_path: Path, six_bands: np.ndarray, order: str) -> None:
    root, (image, file) = tmp_path / "own", stacked(six_bands, order)
    for number in range(3):
        write(root / "images" / f"plot{number}.tif", file, nodata=int(file[0, 0, 0]))
        write(root / "masks" / f"plot{number}.tif", np.full((1, 32, 32), 4, np.uint8))
    classes = [LabelClass(4, "vine", "882255"), LabelClass(9, "olive", "44AA99")]
    layout = folder_layout(
        "images/{id}.tif",
        "masks/{id}.tif",
        bands=SIX,
        sensor="sentinel-2-l2a",
        frames=3,
        order=order,
        classes=classes,
        offset=0,
    )
    store = store_of_dataset(layout, root, tmp_path / "o.zarr", size=16)
    assert len(store) == 12  # four windows a file
    missing = file[0, 0, 0]
    for row in store.samples.itertuples():
        _, line, column = row.name.split("_")
        expected = image[:, :, int(line) : int(line) + 16, int(column) : int(column) + 16]
        found = store.read([row.Index])
        np.testing.assert_array_equal(found["image"][0], np.where(expected == missing, -9999, expected))
        assert (found["label"] == 0).all()
        assert row.affine[2] == 600_000 + 30 * int(column)


def test_what_does_not_follow_the_layout_is_named(tmp_path: Path, six_bands: np.ndarray) -> None:
    classes = [LabelClass(0, "a", "000000")]
    layout = folder_layout("{id}_img.tif", "{id}_lab.tif", bands=SIX, sensor="hls-l30", classes=classes)
    write(tmp_path / "x_img.tif", six_bands[:5, :16, :16])
    write(tmp_path / "x_lab.tif", np.zeros((1, 16, 16), np.uint8))
    with pytest.raises(DatasetError, match=r"1 of 1 parts failed.* has 5 bands; a file of folder has one date of blue"):
        store_of_dataset(layout, tmp_path, tmp_path / "a.zarr")
    write(tmp_path / "x_img.tif", six_bands[:, :16, :16])
    write(tmp_path / "x_lab.tif", np.full((1, 16, 16), 3, np.uint8))
    with pytest.raises(DatasetError, match=r"holds the label 3; folder has 0 \(a\)"):
        store_of_dataset(layout, tmp_path, tmp_path / "b.zarr")
    write(tmp_path / "x_lab.tif", np.zeros((1, 16, 15), np.uint8))
    with pytest.raises(
        DatasetError, match=r"image and label do not lie on one grid: they have 16 x 16 and 16 x 15 pixels"
    ):
        store_of_dataset(layout, tmp_path, tmp_path / "c.zarr")
    (tmp_path / "x_lab.tif").unlink()
    with pytest.raises(DatasetError, match=r"1 of the 2 files of the train split of folder are not under"):
        store_of_dataset(layout, tmp_path, tmp_path / "d.zarr")
    unnamed = folder_layout(
        "{id}_img.tif", bands=("blue", "green", "red", "nir_broad", "swir_1", "swir_2"), sensor="hls-s30"
    )
    assert unnamed.contract.bands[3] == "nir_broad"
    with pytest.raises(BandError, match="there is no band"):
        folder_layout("{id}_img.tif", bands=("blu",), sensor="hls-s30")


def plots(root: Path, six_bands: np.ndarray, added: int = 0, count: int = 3) -> Path:
    """A folder of images of 32 x 32 pixels, moved up by a number, with masks of one class."""
    for number in range(count):
        write(root / f"plot{number}_img.tif", six_bands[:, :32, number * 32 : number * 32 + 32] + np.int16(added))
        write(root / f"plot{number}_lab.tif", np.full((1, 32, 32), 4, np.uint8))
    return root


def layout_of(**more: object) -> DatasetLayout:
    options = {"bands": SIX, "sensor": "sentinel-2-l2a", "classes": [LabelClass(4, "vine", "882255")], "offset": 0}
    return folder_layout("{id}_img.tif", "{id}_lab.tif", **{**options, **more})


def test_what_is_appended_lies_in_files_of_as_many_samples_as_the_store_has(
    tmp_path: Path, six_bands: np.ndarray
) -> None:
    one, other = plots(tmp_path / "one", six_bands), plots(tmp_path / "other", six_bands, 500)
    store = store_of_dataset(layout_of(), one, tmp_path / "s.zarr", size=16, shard=5, codec="lz4")
    first = store.read(range(12))
    longer = store_of_dataset(layout_of(), other, tmp_path / "s.zarr", size=16, shard=64, append=True)
    assert (len(longer), longer.spec.shard, longer.spec.codec) == (24, 5, "lz4")
    assert longer.verify().problems == []
    found = longer.read(range(24))
    for name, values in first.items():
        np.testing.assert_array_equal(found[name][:12], values)
    for row in longer.samples.iloc[12:].itertuples():
        plot, line, column = row.name.removeprefix("plot").split("_")
        left = int(plot) * 32 + int(column)
        expected = six_bands[:, int(line) : int(line) + 16, left : left + 16] + 500
        np.testing.assert_array_equal(found["image"][row.Index, 0], expected)


def test_a_finished_store_is_refused_to_a_command_that_means_something_else(
    tmp_path: Path, six_bands: np.ndarray
) -> None:
    root, other = plots(tmp_path / "one", six_bands), plots(tmp_path / "other", six_bands, 500)
    path = store_of_dataset(layout_of(), root, tmp_path / "s.zarr").path
    before = (path / "zarr.json").stat().st_mtime_ns
    shutil.copytree(root, tmp_path / "copy")
    for same in (root, tmp_path / "copy"):  # a copy holds the same
        assert len(store_of_dataset(layout_of(), same, path)) == 3
    for changed, told in (
        ({"offset": -1000}, "offset"), ({"scale": 5000.0}, "scale"), ({"nodata": [7.0]}, "nodata"),
        ({"ignore": [9]}, "ignore"), ({"sensor": "hls-s30"}, "sensor"),
        ({"classes": [LabelClass(4, "olive", "882255")]}, "spec"),
    ):  # fmt: skip
        with pytest.raises(DatasetError, match=rf"is a finished store that was built otherwise \(.*{told}.* differ\)"):
            store_of_dataset(layout_of(**changed), root, path)
    with pytest.raises(DatasetError, match=r"built otherwise \(contents differ\): choose another name, append to it"):
        store_of_dataset(layout_of(), other, path)
    write(root / "plot1_lab.tif", np.where(np.arange(1024) == 500, 0, 4).astype(np.uint8).reshape(1, 32, 32))
    with pytest.raises(DatasetError, match=r"built otherwise \(contents differ\)"):
        store_of_dataset(layout_of(), root, path)
    assert (path / "zarr.json").stat().st_mtime_ns == before
    stacks = tmp_path / "stacks"
    for number in range(2):
        write(stacks / f"plot{number}_img.tif", np.concatenate([six_bands[:, :32, :32]] * 2))
        write(stacks / f"plot{number}_lab.tif", np.full((1, 32, 32), 4, np.uint8))
    store_of_dataset(layout_of(frames=2, order="time-major"), stacks, tmp_path / "t.zarr")
    with pytest.raises(DatasetError, match=r"built otherwise \(order differ\)"):
        store_of_dataset(layout_of(frames=2, order="band-major"), stacks, tmp_path / "t.zarr")


def test_a_store_of_an_earlier_version_is_finished_to_its_command(tmp_path: Path, six_bands: np.ndarray) -> None:
    """Its plan says neither how its files are read nor what is in them."""
    root = plots(tmp_path / "one", six_bands)
    path = store_of_dataset(layout_of(), root, tmp_path / "s.zarr").path
    metadata = json.loads((path / "zarr.json").read_text())
    plan = metadata["attributes"]["build"]
    for key in ("contents", "sensor", "order", "scale", "offset", "nodata", "ignore"):
        del plan[key]
    (path / "zarr.json").write_text(json.dumps(metadata))
    before = (path / "zarr.json").stat().st_mtime_ns
    store = store_of_dataset(layout_of(), root, path)
    assert (path / "zarr.json").stat().st_mtime_ns == before
    assert StoreDataset(store)[0]["image"].shape == (6, 1, 32, 32)
    with pytest.raises(DatasetError, match=r"built otherwise \(seed differ\)"):
        store_of_dataset(layout_of(), root, path, seed=1)


def test_a_mended_file_lets_the_same_command_go_on(tmp_path: Path, six_bands: np.ndarray) -> None:
    """Of what was cut before, only what has changed since is cut anew."""
    root = plots(tmp_path / "one", six_bands)
    for part, names in {"train": "plot0\n", "val": "plot1\n", "test": "plot2\n"}.items():
        (root / f"{part}.txt").write_text(names)
    layout = layout_of(lists={part: root / f"{part}.txt" for part in ("train", "val", "test")})
    (root / "plot2_img.tif").write_bytes(b"II*")
    with pytest.raises(DatasetError, match=r"1 of 3 parts failed, folder-test-00000 with: .* others are kept: mend"):
        store_of_dataset(layout, root, tmp_path / "s.zarr")
    staged = tmp_path / "s.zarr/.build/staged"
    kept = (staged / "folder-train-00000").stat().st_ino
    (root / "plot2_img.tif").unlink()
    write(root / "plot2_img.tif", six_bands[:, :32, 64:96])
    write(root / "plot1_img.tif", six_bands[:, :32, 32:64] + np.int16(500))
    seen: list[int] = []
    store = store_of_dataset(
        layout, root, tmp_path / "s.zarr",
        progress=lambda _: lambda *_: seen.append((staged / "folder-train-00000").stat().st_ino),
    )  # fmt: skip
    assert set(seen) == {kept}
    found = store.read(range(3))["image"][:, 0]
    for number, part, added in ((0, "train", 0), (1, "val", 500), (2, "test", 0)):
        expected = six_bands[:, :32, number * 32 : number * 32 + 32] + added
        np.testing.assert_array_equal(found[store.indices(part)[0]], expected)
    assert store.verify().problems == []


def test_labels_that_are_a_quantity_are_refused_for_a_store(tmp_path: Path, six_bands: np.ndarray) -> None:
    root = plots(tmp_path / "one", six_bands)
    biomass = layout_of(classes=(), quantity=Quantity("biomass", 50.0, 25.0, "t"))
    with pytest.raises(DatasetError, match=r"labels of folder are a quantity \(biomass\), and a store holds classes: "):
        store_of_dataset(biomass, root, tmp_path / "s.zarr")
    images = folder_layout("{id}_img.tif", bands=SIX, sensor="sentinel-2-l2a", offset=0)
    assert set(store_of_dataset(images, root, tmp_path / "s.zarr").read([0])) == {"image"}
