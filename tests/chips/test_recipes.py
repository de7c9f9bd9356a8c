"""Public layouts and folders into stores: the right band of the right date, the right class, official parts kept."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from prithvi.catalog import LabelClass, data_catalog, dataset, folder_layout
from prithvi.chips import verify
from prithvi.chips.recipes import store_of_dataset
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
