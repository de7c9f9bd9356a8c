"""Pages of results that something happened to: what is sound is shown, the rest is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from prithvi.errors import ConfigError, SceneError
from prithvi.mapping.series_files import fill_series
from prithvi.plot import label_efficiency
from prithvi.report import view
from prithvi.scenes import open_scene


@pytest.mark.parametrize(
    "change",
    [
        {"properties": [1]}, {"properties": None}, {"links": {"a": 1}}, {"links": [1.5, None, {"rel": 3}]},
        {"links": [{"rel": "derived_from", "href": "x" * 5000}]}, {"links": [{"rel": "derived_from", "href": "\0"}]},
    ],
)  # fmt: skip
def test_an_item_that_is_none_takes_nothing_from_the_map(flood: Path, change: dict[str, Any]) -> None:
    item = flood.with_suffix(".json")
    item.write_text(json.dumps(json.loads(item.read_text()) | change))
    assert "water" in view(flood, flood.parent / "page.html").read_text()


def test_figures_that_are_no_numbers_are_left_out(flood: Path) -> None:
    item, model = flood.with_suffix(".json"), flood.parent / "model"
    model.mkdir()
    (model / "metrics.json").write_text(
        json.dumps({"test/mIoU": {"mean": "high"}, "test/F1": {"mean": 0.5, "std": 0.1}})
    )
    plain = json.loads(item.read_text())
    item.write_text(json.dumps(plain | {"links": [{"rel": "derived_from", "href": "model/item.json"}]}))
    page = view(flood, flood.parent / "page.html").read_text()
    assert "0.500 ± 0.100" in page
    assert "test/mIoU" not in page


def test_a_damaged_series_is_named(filled: Path) -> None:
    mask = filled / "2022-05-01_filled.tif"
    mask.write_bytes(mask.read_bytes()[:200])
    with pytest.raises(SceneError, match=r"2022-05-01_filled\.tif cannot be read"):
        view(filled, filled / "page.html")


def test_a_mask_of_many_bands_is_no_mask(filled: Path) -> None:
    """Of a block of many bands GDAL reads all."""
    mask = filled / "2022-05-01_filled.tif"
    with rasterio.open(mask) as raster:
        profile = {**raster.profile, "count": 3}
        states = np.repeat(raster.read(), 3, axis=0)
    with rasterio.open(mask, "w", **profile) as raster:
        raster.write(states)
    with pytest.raises(SceneError, match=r"2022-05-01_filled\.tif has 3 bands, and a mask of filled pixels has one\."):
        view(filled, filled / "page.html")


def test_a_damaged_store_is_named(filled: Path) -> None:
    store = filled.parent / "cube.zarr"
    fill_series(open_scene(sorted(filled.glob("2022-05-??.tif"))), store, "nearest")
    assert "filled" in view(store, filled / "page.html").read_text()
    chunk = max((path for path in (store / "image").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    data = bytearray(chunk.read_bytes())
    data[len(data) // 3 :: 7] = bytes(len(data[len(data) // 3 :: 7]))
    chunk.write_bytes(data)
    with pytest.raises(SceneError, match=r"cube\.zarr is damaged, or no series that can be shown"):
        view(store, filled / "page.html")


def test_a_comparison_without_its_page_or_columns_is_named(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("method,chips\na,1\n")
    with pytest.raises(ConfigError, match=r"index.html cannot be read \(No such file"):
        view(tmp_path, tmp_path / "page.html")
    (tmp_path / "results.csv").write_text("chips,test/mIoU\n1,0.5\n")
    with pytest.raises(ConfigError, match=r"results\.csv has no column method"):
        label_efficiency(tmp_path, figure="test/mIoU")
    (tmp_path / "results.csv").write_text("method,chips,test/mIoU\na,1,high\n")
    with pytest.raises(ConfigError, match="test/mIoU holds words"):
        label_efficiency(tmp_path, figure="test/mIoU")
    (tmp_path / "results.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match=r"results\.csv cannot be read as a table"):
        label_efficiency(tmp_path, figure="test/mIoU")


def test_dates_of_two_runs_are_told_apart(filled: Path) -> None:
    files = sorted(filled.glob("2022-05-??.tif"))
    fill_series(open_scene(files)[..., :20, :30], filled.parent / "small", "nearest")
    for file in (filled.parent / "small").glob(f"{files[1].stem}*.tif"):
        file.replace(filled / file.name)
    with pytest.raises(
        SceneError, match=rf"{files[1].stem} lies on another grid than {files[0].stem}, or has other bands"
    ):
        view(filled, filled / "page.html")
    for file in filled.glob(f"{files[1].stem}*.tif"):
        file.unlink()  # as the message says
    assert "filled" in view(filled, filled / "page.html").read_text()
