"""What a label raster's values mean: names and colours of the file, known products, and values that may be no data."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from rasterio.transform import array_bounds, from_origin
from shapely.geometry import box

from prithvi.chips import ChipStore
from prithvi.chips.label_files import RasterLabels, open_labels
from prithvi.errors import DatasetError
from tests.conftest import Answer
from tests.synthetic_hls import Archive

CRS = "EPSG:32631"
AT = from_origin(600_000, 5_000_000, 30, 30)
SHAPE = (16, 16)
BOUNDS = array_bounds(*SHAPE, AT)


def raster(
    path: Path, values: list[float], dtype: str = "uint8", tags: dict[str, str] | None = None, **more: Any
) -> Path:
    """16 x 16 pixels, the values in as many stripes of columns."""
    stripes = np.array(values).astype(dtype)[np.arange(16) * len(values) // 16]
    with rasterio.open(
        path, "w", driver="GTiff", height=16, width=16, count=1, dtype=dtype, crs=CRS, transform=AT, **more
    ) as file:
        file.write(np.broadcast_to(stripes, (1, 16, 16)))
        file.update_tags(**(tags or {}))
    return path


def classes(labels: Any) -> list[tuple[int, str]]:
    return [(entry.value, entry.name) for entry in labels.classes]


def stripes(labels: Any) -> list[int]:
    """The label of every stripe on a chip of the same grid, as the class's own value; None where there is none."""
    label = labels.near(CRS, BOUNDS).on(AT, SHAPE)[0]
    return [labels.classes[number].value if number != 255 else None for number in dict.fromkeys(label.tolist())]


def test_values_stay_the_classes_values_whatever_their_order_and_gaps(tmp_path: Path) -> None:
    labels = open_labels(raster(tmp_path / "l.tif", [30, 10, 20]))
    assert classes(labels) == [(10, "10"), (20, "20"), (30, "30")]
    assert stripes(labels) == [30, 10, 20]
    assert labels.summary == "classes are 10, 20, 30."


def test_ignored_values_are_no_class(tmp_path: Path) -> None:
    labels = open_labels(raster(tmp_path / "l.tif", [1, 0, 9, 2]), ignore=["0", "9"])
    assert classes(labels) == [(1, "1"), (2, "2")]
    assert stripes(labels) == [1, None, 2]
    assert labels.summary == "classes are 1, 2; no class are 0 in 64 pixels, 9 in 64 pixels."
    with pytest.raises(DatasetError, match=r"--ignore takes whole numbers for a raster, such as 254,255; found \['x'"):
        open_labels(tmp_path / "l.tif", ignore=["x"])
    with pytest.raises(DatasetError, match="--ignore and --keep both say 9"):
        open_labels(tmp_path / "l.tif", ignore=["9"], keep=["9"])
    with pytest.raises(DatasetError, match="nodata and ignored values only: there is no class"):
        open_labels(tmp_path / "l.tif", ignore=["0", "1", "2", "9"])


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("uint8", 255), ("int16", 255), ("int16", -1), ("int16", -9999), ("uint16", 65535), ("int16", 32767), ("int8", -1),
     ("float32", -1), ("float32", 255)],
)  # fmt: skip
def test_a_value_that_may_be_no_data_is_asked_about_and_the_remedies_work(
    tmp_path: Path, dtype: str, value: int
) -> None:
    path = raster(tmp_path / "l.tif", [0, 1, value], dtype)
    with pytest.raises(DatasetError) as asked:
        open_labels(path)
    told = str(asked.value)
    assert f"l.tif holds {value} in 80 pixels, and no tag says that it is nodata" in told
    (ignoring,) = re.findall(r"--ignore=(\S+) if it is no data", told)
    (keeping,) = re.findall(r"--keep=(\S+) if it is a class", told)
    assert stripes(open_labels(path, ignore=[ignoring])) == [0, 1, None]
    assert stripes(open_labels(path, keep=[keeping])) == [0, 1, value]
    # A tag answers the question before it is asked.
    assert stripes(open_labels(raster(tmp_path / "t.tif", [0, 1, value], dtype, nodata=value))) == [0, 1, None]


def test_whole_numbers_in_floats_are_classes_and_nan_is_none(tmp_path: Path) -> None:
    labels = open_labels(raster(tmp_path / "f.tif", [1, np.nan, 2], "float32"))
    assert classes(labels) == [(1, "1"), (2, "2")]
    assert stripes(labels) == [1, None, 2]
    with pytest.raises(DatasetError, match=r"holds 1\.5, which is a measurement: labels are one band of whole numbers"):
        open_labels(raster(tmp_path / "m.tif", [1, 1.5], "float32"))


TABLE = """<PAMDataset><PAMRasterBand band="1"><GDALRasterAttributeTable tableType="thematic">
<FieldDefn index="0"><Name>VALUE</Name><Type>0</Type><Usage>5</Usage></FieldDefn>
<FieldDefn index="1"><Name>Class_Name</Name><Type>2</Type><Usage>2</Usage></FieldDefn>
<Row index="0"><F>1</F><F>Corn</F></Row><Row index="1"><F>5</F><F>Soybeans</F></Row>
</GDALRasterAttributeTable></PAMRasterBand></PAMDataset>"""
CATEGORIES = """<PAMDataset><PAMRasterBand band="1"><CategoryNames><Category></Category><Category>Corn</Category>
<Category></Category><Category></Category><Category></Category><Category>Soybeans</Category></CategoryNames>
</PAMRasterBand></PAMDataset>"""


@pytest.mark.parametrize("beside", [TABLE, CATEGORIES, None])
def test_names_and_colours_of_the_file_are_taken(tmp_path: Path, beside: str | None) -> None:
    """GDAL's attribute table and category names in the .aux.xml, and the tags that our own maps have."""
    path = raster(
        tmp_path / "l.tif", [1, 5], tags=None if beside else {"CLASS_1": "Corn", "CLASS_5": "Soybeans"}
    )  # fmt: skip
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {1: (255, 211, 0), 5: (38, 115, 0)})
    if beside:
        path.with_name("l.tif.aux.xml").write_text(beside)
    labels = open_labels(path)
    assert classes(labels) == [(1, "Corn"), (5, "Soybeans")]
    assert [entry.color for entry in labels.classes] == ["FFD300", "267300"]


def test_a_value_that_the_file_calls_no_data_is_asked_about(tmp_path: Path) -> None:
    path = raster(tmp_path / "l.tif", [0, 1, 2], tags={"CLASS_0": "No Data", "CLASS_1": "a", "CLASS_2": "b"})
    with pytest.raises(DatasetError, match=r"holds 0 in 96 pixels and calls it 'No Data'.*--ignore=0"):
        open_labels(path)
    assert classes(open_labels(path, ignore=["0"])) == [(1, "a"), (2, "b")]


NAMES = ("OPERA_L3_DSWx-HLS_T15SXR_20210907T163901Z_20230101T000000Z_S2A_30_v1.0_B{}.tif", "dswx_hls_v1.0_B{}.tif")


@pytest.mark.parametrize("name", NAMES)
def test_dswx_is_known_by_its_name_and_its_masked_values_are_no_class(tmp_path: Path, name: str) -> None:
    labels = open_labels(raster(tmp_path / name.format("01_WTR"), [0, 1, 252, 2, 253, 254, 255]))
    assert classes(labels) == [(0, "not water"), (1, "open water"), (2, "partial surface water")]
    assert stripes(labels) == [0, 1, None, 2]
    assert "253 (cloud or cloud shadow) in 32 pixels" in labels.summary
    assert "is read as DSWx-HLS WTR: " in labels.summary
    kept = open_labels(tmp_path / name.format("01_WTR"), keep=["252"])
    assert classes(kept)[-1] == (252, "snow or ice")
    both = open_labels(raster(tmp_path / name.format("02_BWTR"), [0, 1, 253]))
    assert classes(both) == [(0, "not water"), (1, "water")]


def test_other_layers_of_dswx_and_contradictions_are_refused(tmp_path: Path) -> None:
    cloud = raster(tmp_path / NAMES[0].format("09_CLOUD"), [0, 1, 4])
    for product in (None, "dswx-hls"):
        with pytest.raises(DatasetError, match="is the layer CLOUD of DSWx-HLS, which holds no classes"):
            open_labels(cloud, label_product=product)
    water = raster(tmp_path / NAMES[0].format("01_WTR"), [0, 1, 7])
    with pytest.raises(DatasetError, match=r"holds 7 in 80 pixels, which DSWx-HLS WTR does not have.*--ignore 7"):
        open_labels(water)
    assert classes(open_labels(water, ignore=["7"])) == [(0, "not water"), (1, "open water")]
    with pytest.raises(DatasetError, match="is dswx-hls by its name, and --label-product says dswx-hls-bwtr"):
        open_labels(water, label_product="dswx-hls-bwtr")
    tags = {"PRODUCT_TYPE": "DSWx-HLS", "PRODUCT_VERSION": "1.0"}
    renamed = raster(tmp_path / "water.tif", [0, 1, 253], tags=tags)
    with pytest.raises(
        DatasetError, match="by its tags, and its name does not say which: say --label-product dswx-hls "
    ):
        open_labels(renamed)
    assert stripes(open_labels(renamed, label_product="dswx-hls")) == [0, 1, None]
    with pytest.raises(DatasetError, match="there is no label product 'dswx': did you mean dswx-hls"):
        open_labels(renamed, label_product="dswx")
    # Of another product nothing is known: 255 is asked about.
    radar = raster(tmp_path / "OPERA_L3_DSWx-S1_T15SXR_B01_WTR.tif", [0, 1, 255])
    with pytest.raises(DatasetError, match="holds 255"):
        open_labels(radar)


def test_the_real_provisional_dswx_is_read_with_its_own_classes(shared: Path) -> None:
    folder = shared / "proteus_hls_s30_dswx"
    if not folder.is_dir():
        pytest.skip("needs proteus_hls_s30_dswx of the imagery, which older copies of it lack")
    labels = open_labels(folder / "dswx_hls_v0.1_B01_WTR.tif")
    assert isinstance(labels, RasterLabels)
    assert [entry.value for entry in labels.classes] == [0, 1, 2, 3, 4]
    assert labels.classes[1].name == "water, high confidence"
    assert "9 (cloud, shadow or snow) in" in labels.summary
    assert open_labels(folder / "dswx_hls_v0.1_B02_BWTR.tif").classes[1].name == "water"
    for layer in ("B03_CONF", "B04_DIAG", "B09_CLOUD"):
        with pytest.raises(DatasetError, match=r"holds no classes of land or water: give the layer WTR"):
            open_labels(folder / f"dswx_hls_v0.1_{layer}.tif")


def features(path: Path, **columns: list[Any]) -> Path:
    """A square of 120 m for each entry, from west to east."""
    number = len(next(iter(columns.values())))
    places = [box(600_000 + 120 * i, 4_999_520, 600_120 + 120 * i, 5_000_000) for i in range(number)]
    gpd.GeoDataFrame(columns, geometry=places, crs=CRS).to_parquet(path)
    return path


@pytest.mark.parametrize(
    "names", [["Water", "water", "land"], ["water", "land", "water "], ["open  water", "Open water"]]
)
def test_classes_that_differ_by_case_or_blanks_are_refused_with_their_names(tmp_path: Path, names: list[str]) -> None:
    path = features(tmp_path / "f.parquet", kind=names)
    with pytest.raises(DatasetError, match=r"case and blanks make no other name") as refusal:
        open_labels(path, "kind")
    assert all(repr(name) in str(refusal.value) for name in names if name != "land")


def test_numbers_of_a_column_are_the_values_and_words_are_counted(tmp_path: Path) -> None:
    path = features(tmp_path / "f.parquet", code=[30, 10, 20], text=["30", "10", "20"], crop=["rye", "maize", "oats"])
    for column in ("code", "text"):
        labels = open_labels(path, column)
        assert classes(labels) == [(10, "10"), (20, "20"), (30, "30")]
        assert stripes(labels) == [30, 10, 20, None]
        assert classes(open_labels(path, column, background="other"))[0] == (0, "other")
        assert stripes(open_labels(path, column, background="0")) == [30, 10, 20, 0]
    assert classes(open_labels(path, "crop")) == [(0, "maize"), (1, "oats"), (2, "rye")]


def test_codes_with_leading_zeros_are_numbers_and_codes_of_letters_are_words(tmp_path: Path) -> None:
    path = features(tmp_path / "f.parquet", code=["03", "01", "02"], mixed=["1", "a", "2"])
    assert classes(open_labels(path, "code")) == [(1, "01"), (2, "02"), (3, "03")]
    assert stripes(open_labels(path, "code")) == [3, 1, 2, None]
    assert classes(open_labels(path, "mixed")) == [(0, "1"), (1, "2"), (2, "a")]


def test_features_without_a_class_are_no_background(tmp_path: Path) -> None:
    """Somebody drew them and did not say what is there: of three fields one is unknown, and one is ignored."""
    path = features(tmp_path / "f.parquet", crop=["maize", None, "oats"])
    assert stripes(open_labels(path, "crop", background="none")) == [1, None, 2, 0]
    ignoring = open_labels(path, "crop", background="none", ignore=["oats"])
    assert classes(ignoring) == [(0, "none"), (1, "maize")]
    assert stripes(ignoring) == [1, None, 0]
    with pytest.raises(DatasetError, match="has no class 'oat' to ignore: did you mean oats"):
        open_labels(path, "crop", ignore=["oat"])


def test_the_command_asks_and_its_remedy_builds_the_store(
    archive: Archive, prithvi: Callable[..., Answer], tmp_path: Path
) -> None:
    """The question is answered by pasting what it says behind the command."""
    with rasterio.open(next(archive.root.rglob("*31UDS*B02.tif"))) as granule:
        values = np.full(granule.shape, 40, np.uint8)
        values[: granule.height // 2] = 255
        with rasterio.open(
            tmp_path / "labels.tif", "w", driver="GTiff", height=granule.height, width=granule.width, count=1,
            dtype="uint8", crs=granule.crs, transform=granule.transform,
        ) as file:  # fmt: skip
            values[:, : granule.width // 2] = 7
            file.write(values, 1)
    words = ["data", "build", archive.root, "-o", tmp_path / "c.zarr", "--size", "64", "--frames", "1", "--labels",
             tmp_path / "labels.tif", "--good", "0", "--missing", "0.99", "--per-tile", "2"]  # fmt: skip
    asked = prithvi(*words)
    assert asked.code != 0
    (remedy,) = re.findall(r"say (--ignore=255) if", asked.err) or [pytest.fail(asked.err)]
    built = prithvi(*words, *shlex.split(remedy))
    assert built.code == 0, built.err
    assert "Labels: classes are 7, 40; no class are 255 in" in built.err
    store = ChipStore(tmp_path / "c.zarr")
    assert [entry.value for entry in store.spec.classes] == [7, 40]
    assert set(np.unique(store.read(range(len(store)), ["label"])["label"])) <= {0, 1, 255}
    nothing = prithvi(*words[:-4], "--ignore", "1")
    assert nothing.code != 0
