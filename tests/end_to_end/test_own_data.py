"""configs/own.yaml, the configuration to copy for images and masks of one's own, trains, is measured and maps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import rasterio
from rasterio.windows import Window

from prithvi.catalog import config_path
from prithvi.modelio import load
from prithvi.modelio.predictor import FittedModel
from tests.conftest import SPAIN, SPAIN_LABEL, Answer

pytestmark = pytest.mark.filterwarnings(
    "ignore:The number of training batches",
    "ignore:The dirpath has changed",
    "ignore:no pixel of the training chips",
    "ignore:.* has pixels of 8.87 m",  # the shipped image, taken for one of HLS
)


def test_own_yaml_on_a_folder_laid_out_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prithvi: Callable[..., Answer]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("images", "masks"):
        (tmp_path / "vineyards" / name).mkdir(parents=True)
    with rasterio.open(SPAIN) as image, rasterio.open(SPAIN_LABEL) as label:
        for number, part in enumerate(("train", "val", "test")):
            square = Window(64 + 128 * number, 64, 64, 64)
            more = {"width": 64, "height": 64, "transform": image.window_transform(square), "crs": image.crs}
            common = {"driver": "GTiff", **more}
            with rasterio.open(f"vineyards/images/v{number}_2019.tif", "w", count=6, dtype="int16", **common) as raster:
                raster.write(image.read([2, 3, 4, 9, 12, 13], window=square).astype("int16"))
            mask = label.read(1, window=square)
            mask[mask < 0] = 255
            with rasterio.open(f"vineyards/masks/v{number}.tif", "w", count=1, dtype="uint8", **common) as raster:
                raster.write(mask.astype("uint8"), 1)
            Path(f"vineyards/{part}.txt").write_text(f"v{number}\n", encoding="utf-8")
    Path("own.yaml").write_text(config_path("own").read_text("utf-8"), encoding="utf-8")
    answer = prithvi("fit", "-c", "own.yaml", "--trainer.max_steps", "2")
    assert answer.code == 0, answer.err
    model = load("runs/own/model")
    assert isinstance(model, FittedModel)
    assert [entry.name for entry in model.classes] == ["other", "vine"]
    answer = prithvi("test", "-c", "own.yaml", "--ckpt_path", "runs/own/model")
    assert answer.code == 0, answer.err
    assert Path("runs/own/metrics.json").is_file()
    answer = prithvi(
        "map",
        "runs/own/model",
        "vineyards/images/v2_2019.tif",
        "-o",
        "maps/",
        "--scale",
        "10000",
        "--bands",
        "1,2,3,4,5,6",
    )
    assert answer.code == 0, answer.err
    with rasterio.open("maps/v2_2019.tif") as raster:
        assert raster.tags()["CLASS_1"] == "vine"
