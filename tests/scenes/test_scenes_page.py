"""What docs/scenes.md prints opens what it says: a file, a granule, items, a product, arrays, a part."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely

import prithvi as package
from prithvi.catalog import data_catalog
from tests.conftest import Answer
from tests.pages import printed_for
from tests.safe_products import make_product
from tests.synthetic_hls import make_archive

PRODUCT = "S2B_MSIL2A_20230823T095559_N0509_R122_T34UCF_20230823T124759.SAFE"


@pytest.mark.filterwarnings("ignore:no STAC item", "ignore:.*trained on")
def test_what_the_page_prints_opens_what_it_says(
    six_bands: np.ndarray,
    write_tif: Callable[..., Path],
    model_folder: Path,
    prithvi: Callable[..., Answer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tif(six_bands[:, :64, :64])
    make_archive(tmp_path / "granules", ["31UDS"], dates=1, start=dt.date(2022, 5, 25), size=64)
    make_product(tmp_path, "2023 L2A").rename(PRODUCT)
    copytree(model_folder, "demo/model")
    outline = shapely.box(600_100, 4_199_500, 600_400, 4_199_900)
    gpd.GeoDataFrame(geometry=[outline], crs="EPSG:32630").to_file("district.gpkg")
    files = data_catalog() / "samples" / "flanders"
    array = package.open_scene("scene.tif").isel(time=0, drop=True)
    names: dict[str, Any] = {
        "prithvi": package, "array": array.assign_attrs(scale_factor=1e-4), "dataset": array.to_dataset(dim="band"),
        "item_of_may": str(files / "2018-05-09.json"), "item_of_june": str(files / "2018-06-28.json"),
    }  # fmt: skip

    opened = []
    for block in printed_for("tests/scenes/test_scenes_page.py", "scenes.md"):
        for line in block.code.splitlines() if block.kind == "python" else ():
            exec(line, names)
            if line.startswith("scene ="):
                opened.append(names["scene"])
        for words in block.commands if block.kind == "sh" else ():
            answer = prithvi(*words[1:])
            assert answer.code == 0, answer.err
    file, granule, items, product, from_array, from_dataset = opened
    assert dict(file.sizes) == {"time": 1, "band": 6, "y": 64, "x": 64}
    assert str(granule["time"].values[0])[:10] == "2022-05-25"
    assert [str(day)[:7] for day in items["time"].values] == ["2018-05", "2018-06"]
    assert product.attrs["sensor"] == "sentinel-2-l2a"
    for scene in (from_array, from_dataset):
        np.testing.assert_array_equal(scene.values[0], array.values)
    assert Path(names["mask"]).name.endswith("_SCL_20m.jp2")
    assert names["inside"].shape == (names["part"].sizes["y"], names["part"].sizes["x"]) == (40, 30)
    with rasterio.open(f"maps/{Path(PRODUCT).stem}.tif") as made:
        assert made.shape == (192, 192)
