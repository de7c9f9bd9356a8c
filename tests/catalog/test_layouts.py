"""Public datasets as their archives lie on disk: the right files, parts and dates, and plain words where not."""

from __future__ import annotations

import csv
import datetime as dt
import json
import re
from pathlib import Path

import pytest

from prithvi.catalog import DatasetLayout, LabelClass, data_catalog, dataset, dataset_names, folder_layout
from prithvi.cli.data.stores import describe
from prithvi.errors import DatasetError

SIX = ("blue", "green", "red", "nir_narrow", "swir_1", "swir_2")
CLASSES = [LabelClass(0, "other", "999999"), LabelClass(1, "vine", "882255")]


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def table(path: Path, *rows: tuple[object, ...]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def burn_scars(root: Path) -> Path:
    stem = "subsetted_512x512_HLS.S30.T10S"
    names = [f"training/{stem}FE.2020267.v1.4", f"training/{stem}GE.2019187.v1.4", f"validation/{stem}EH.2018190.v1.4"]
    return touch(root, *(name + end for name in names for end in ("_merged.tif", ".mask.tif")))


def cloud_gaps(root: Path, *rows: tuple[object, ...]) -> DatasetLayout:
    columns = ("chip_id", "usage", "bad_pct_max", "na_count", "first_image_date", "second_image_date")
    root.mkdir(exist_ok=True)
    table(root / "chip_catalog.csv", (*columns, "third_image_date"), *rows)
    return dataset("cloud_gaps")


def test_burn_scars_are_what_lies_in_their_two_folders_with_the_day_of_their_names(tmp_path: Path) -> None:
    root = touch(burn_scars(tmp_path), "training/._subsetted_512x512_HLS.S30.T10SFE.2020267.v1.4_merged.tif")
    layout = dataset("hls_burn_scars")
    chips = layout.chips(root, "train")
    assert [chip.id.split("HLS.")[1] for chip in chips] == ["S30.T10SFE.2020267.v1.4", "S30.T10SGE.2019187.v1.4"]
    assert [chip.dates for chip in chips] == [(dt.date(2020, 9, 23),), (dt.date(2019, 7, 6),)]
    (chip,) = layout.chips(root, "val")
    assert chip.image == root / "validation" / f"{chip.id}_merged.tif"
    assert chip.label == root / "validation" / f"{chip.id}.mask.tif"
    assert (layout.gain, layout.nodata, layout.frames) == (1.0, (-9999,), 1)


def test_crops_are_read_by_the_official_lists_with_the_three_days_of_their_table(tmp_path: Path) -> None:
    layout = dataset("multi_temporal_crops")
    ids = layout.chip_ids("val")
    touch(tmp_path, *(f"validation_chips/{id}{end}" for id in ids for end in ("_merged.tif", ".mask.tif")))
    assert [chip.dates for chip in layout.chips(tmp_path, "val")] == [None] * 771
    days = ("2022-03-25", "2022-06-13", "2022-09-01T17:10:00")
    table(
        tmp_path / "chips_df.csv",
        ("chip_id", "tile", "first_img_date", "middle_img_date", "last_img_date"),
        (ids[1], "13SGV", *days),
    )
    chips = layout.chips(tmp_path, "val")
    assert chips[0].dates is None  # the table does not name it
    assert chips[1].dates == (dt.date(2022, 3, 25), dt.date(2022, 6, 13), dt.date(2022, 9, 1))
    table(
        tmp_path / "chips_df.csv",
        ("chip_id", "first_img_date", "middle_img_date", "last_img_date"),
        (ids[0], "25 March", *days[1:]),
    )
    with pytest.raises(DatasetError, match=rf"chips_df.csv: a date of {ids[0]} cannot be read"):
        layout.chips(tmp_path, "val")


def test_cloud_gap_chips_are_the_clear_rows_of_their_table(tmp_path: Path) -> None:
    """The released form writes 2022/04/21, the pipeline that made it 2022-04-21; validation chips lie in test/."""
    days = ("2022/04/21", "2022/06/15", "2022/09/23")
    layout = cloud_gaps(
        tmp_path,
        ("chip_184_236", "train", 0.69, 0.0, *days),
        ("chip_085_328", "train", 36.0, 0.0, *days),  # clouds
        ("chip_110_377", "train", 0.1, 23.0, *days),  # holes
        ("chip_273_471", "validate", 4.99, 0, "2022-03-03", "2022-04-27", "2022-06-16"),
        ("chip_254_259", "validate", 5, 0, *days),
    )
    touch(tmp_path, "train/hls_chips/chip_184_236.tif", "test/hls_chips/chip_273_471.tif")
    (train,), (val,) = layout.chips(tmp_path, "train"), layout.chips(tmp_path, "val")
    assert (train.image, train.label) == (tmp_path / "train" / "hls_chips" / "chip_184_236.tif", None)
    assert train.dates == (dt.date(2022, 4, 21), dt.date(2022, 6, 15), dt.date(2022, 9, 23))
    assert val.image == tmp_path / "test" / "hls_chips" / "chip_273_471.tif"
    assert val.dates == (dt.date(2022, 3, 3), dt.date(2022, 4, 27), dt.date(2022, 6, 16))


def test_a_table_that_does_not_say_how_cloudy_a_chip_is_is_refused(tmp_path: Path) -> None:
    layout = cloud_gaps(tmp_path, ("chip_1", "train", "", 0, *["2022-04-21"] * 3))
    with pytest.raises(DatasetError, match=r"chip_catalog.csv holds '' where a number below 5 marks a chip as usable"):
        layout.chip_ids("train", root=tmp_path)
    layout = cloud_gaps(tmp_path, ("chip_1", "train", 9, 0, *["2022-04-21"] * 3))
    with pytest.raises(DatasetError, match=r"train split is empty: cloud_gaps has no chip by .*chip_catalog\.csv"):
        layout.chip_ids("train", root=tmp_path)


def test_missing_files_are_all_named_unless_none_is_there(tmp_path: Path) -> None:
    root = burn_scars(tmp_path)
    for mask in root.glob("training/*.mask.tif"):
        mask.unlink()
    with pytest.raises(
        DatasetError, match=r"2 of the 4 files of the train split of hls_burn_scars are not under .*mask"
    ) as error:
        dataset("hls_burn_scars").chips(root, "train")
    assert str(error.value).count(".mask.tif") == 2
    with pytest.raises(DatasetError, match=r"1542 of the 1542 files .* of multi_temporal_crops") as error:
        dataset("multi_temporal_crops").chips(root, "val")
    assert str(error.value).count(".tif") == 1


def test_lists_of_the_users_are_never_ignored(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"hls_burn_scars has the parts that its own archive says.*leave them out"):
        dataset("hls_burn_scars").chip_ids("train", tmp_path / "mine", tmp_path)
    with pytest.raises(DatasetError, match=r"the list of the val split is not there: .*validation_data.txt"):
        dataset("multi_temporal_crops").chip_ids("val", tmp_path)


def test_a_dataset_without_a_test_split_says_which_it_has() -> None:
    with pytest.raises(DatasetError, match="multi_temporal_crops has no split 'test': known are train, val"):
        dataset("multi_temporal_crops").chip_ids("test")


@pytest.mark.parametrize(
    ("image", "label", "files"),
    [
        ("img/{id}.tif", "lab/{id}.tif", ["img/a.tif", "img/b.tif", "lab/a.tif", "lab/b.tif"]),
        ("{id}.tif", "{id}_mask.tif", ["a.tif", "a_mask.tif", "b.tif", "b_mask.tif"]),
        ("x_{id}_img.tif", "{id}.tif", ["x_a_img.tif", "x_b_img.tif", "a.tif", "b.tif"]),
        ("plots/{id}/s2.tif", "plots/{id}/crop.tif", [f"plots/{id}/{n}.tif" for id in "ab" for n in ("s2", "crop")]),
        ("set[1]{id}.tif", "lab/{id}.tif", ["set[1]a.tif", "set[1]b.tif", "lab/a.tif", "lab/b.tif"]),
    ],
)
def test_any_folder_finds_its_images_and_never_takes_a_mask_for_one(
    tmp_path: Path, image: str, label: str, files: list[str]
) -> None:
    layout = folder_layout(image, label, bands=SIX, sensor="hls-s30", classes=CLASSES)
    chips = layout.chips(touch(tmp_path, *files, "readme.txt"), "train")
    assert [chip.id for chip in chips] == ["a", "b"]
    assert {str(path.relative_to(tmp_path)) for chip in chips for path in (chip.image, chip.label) if path} == set(
        files
    )
    assert chips[0].dates is None


def test_an_empty_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    layout = folder_layout("img/{id}.tif", bands=SIX, sensor="hls-s30")
    with pytest.raises(DatasetError, match=re.escape(f"folder has no chip by {tmp_path}/img/*.tif")):
        layout.chips(tmp_path, "train")


def test_a_folder_takes_scale_and_nodata_from_its_sensor_unless_told() -> None:
    landsat = folder_layout("{id}.tif", bands=SIX, sensor="landsat-8-c2-l2")
    assert (landsat.gain, landsat.bias, landsat.nodata) == (2.75e-5, -0.2, (0,))
    reflectance = folder_layout("{id}.tif", bands=SIX, sensor="landsat-8-c2-l2", gain=1.0)
    assert (reflectance.gain, reflectance.bias, reflectance.nodata) == (1.0, 0.0, ())
    told = folder_layout("{id}.tif", bands=SIX, sensor="hls-s30", nodata=[-1000])
    assert told.nodata == (-1000,)
    with pytest.raises(DatasetError, match="at least one date; frames=0"):
        folder_layout("{id}.tif", bands=SIX, sensor="hls-s30", frames=0)


def test_every_band_of_every_date_has_its_place_in_a_file() -> None:
    by_time = folder_layout("{id}.tif", bands=SIX, sensor="hls-s30", frames=3, order="time-major")
    by_band = folder_layout("{id}.tif", bands=SIX, sensor="hls-s30", frames=3, order="band-major")
    for layout in (by_time, by_band):
        assert sorted(layout.file_band(time, band) for time in range(3) for band in SIX) == list(range(1, 19))
    assert [by_time.file_band(1, band) for band in SIX] == [7, 8, 9, 10, 11, 12]
    assert [by_band.file_band(1, band) for band in SIX] == [2, 5, 8, 11, 14, 17]
    assert [dataset("sen1floods11").file_band(0, band) for band in SIX] == [2, 3, 4, 9, 12, 13]


@pytest.mark.parametrize("name", dataset_names())
def test_every_dataset_says_where_it_comes_from_and_what_its_colours_are(name: str) -> None:
    plain, layout = json.loads((data_catalog() / name / "collection.json").read_text()), dataset(name)
    assert "prithvi:hub" in plain or "prithvi:source" in plain
    for digest in plain.get("prithvi:hub", {}).get("sha256", {}).values():
        assert re.fullmatch("[0-9a-f]{64}", digest)
    assert set(plain.get("prithvi:hub", {}).get("sha256", {})) <= set(plain.get("prithvi:hub", {}).get("files", []))
    assert set(layout.splits) <= set(plain["prithvi:layout"]["split_notes"])
    colors = [entry.color for entry in layout.classes]
    assert len(set(colors)) == len(colors)
    assert layout.frames == 1 or layout.order == "time-major"


def test_a_description_names_archive_checksum_order_and_the_test_split_that_is_not_there() -> None:
    burn, crops, gaps = (describe(name) for name in ("hls_burn_scars", "multi_temporal_crops", "cloud_gaps"))
    assert burn["hub"][0].startswith("ibm-nasa-geospatial/hls_burn_scars (dataset, revision ")
    assert re.fullmatch(r"hls_burn_scars\.tar\.gz  sha256 [0-9a-f]{64}", burn["hub"][1])
    assert burn["parts"][0] == "train: 540 scenes (folder training)"
    assert [rows["parts"][2].split(":")[1].split()[0] for rows in (burn, crops, gaps)] == ["none", "none", "none"]
    assert crops["order"] == "3 dates, time-major: all of them for one date, then the next"
    assert crops["cite"].endswith("doi:10.57967/hf/0955")
    assert gaps["source"][0] == "https://source.coop/clarkcga/hls-multi-temporal-cloud-gap-imputation"
    assert "classes" not in gaps
