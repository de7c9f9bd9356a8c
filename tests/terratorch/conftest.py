"""Floods as TerraTorch's own data module wants them, and TerraTorch's own command line on them."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import rasterio
import yaml
from rasterio.windows import Window

from prithvi.process import settings_kept
from tests.conftest import SPAIN, SPAIN_LABEL

if importlib.util.find_spec("terratorch") is None:
    collect_ignore_glob = ["test_*.py"]  # needs the terratorch extra

BANDS = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]
SIDE = 96


@contextmanager
def their_warnings() -> Iterator[None]:
    """TerraTorch, torchgeo, kornia and albumentations warn of their own deprecations; these are theirs to mend.

    What they set for the whole process (float32 precision, options of GDAL) is put back: both sides compute alike.
    """
    with settings_kept():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="session")
def floods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares of the sample, 96 pixels wide, four to train on and two to validate on."""
    root = tmp_path_factory.mktemp("floods")
    hand, lists = root / "v1.1/data/flood_events/HandLabeled", root / "v1.1/splits/flood_handlabeled"
    lists.mkdir(parents=True)
    names = [f"Spain_{number}" for number in range(6)]
    for source, kind in ((SPAIN, "S2Hand"), (SPAIN_LABEL, "LabelHand")):
        (hand / kind).mkdir(parents=True)
        with rasterio.open(source) as raster:
            for number, name in enumerate(names):
                window = Window(SIDE * (number % 3) + 64, SIDE * (number // 3) + 64, SIDE, SIDE)
                profile = {**raster.profile, "width": SIDE, "height": SIDE, "tiled": False, "blockysize": SIDE}
                profile["transform"] = raster.window_transform(window)
                profile.pop("blockxsize", None)
                with rasterio.open(hand / kind / f"{name}_{kind}.tif", "w", **profile) as square:
                    square.write(raster.read(window=window))
    for split, members in (("train", names[:4]), ("valid", names[4:]), ("test", names[4:])):
        (lists / f"flood_{split}_data.txt").write_text("\n".join(members) + "\n")
    return root


def transforms(size: int) -> Any:
    """Of a configuration: a crop and what makes a tensor of it, as the installed TerraTorch takes them."""
    with their_warnings():
        from terratorch.datamodules import utils
    steps = [
        {"class_path": "albumentations.RandomCrop", "init_args": {"height": size, "width": size}},
        {"class_path": "albumentations.pytorch.ToTensorV2"},
    ]
    if hasattr(utils, "instantiate_transform_from_dict"):
        return steps
    # Before 1.2.4 its data modules took the dictionaries of a list for transforms.
    return {"class_path": "albumentations.Compose", "init_args": {"transforms": steps, "is_check_shapes": False}}


def configuration(
    floods: Path, folder: Path, model_args: dict[str, Any], callbacks: tuple[str, ...] = (), **task: Any
) -> Path:
    """A configuration for TerraTorch's command line that trains for two steps and keeps what it trained."""
    plain = {
        "seed_everything": 0,
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 1,
            "limit_train_batches": 2,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "default_root_dir": str(folder),
            "logger": {"class_path": "CSVLogger", "init_args": {"save_dir": str(folder), "name": "run"}},
            "callbacks": [{"class_path": name} for name in callbacks],
        },
        "data": {
            "class_path": "terratorch.datamodules.Sen1Floods11NonGeoDataModule",
            "init_args": {
                "data_root": str(floods),
                "batch_size": 2,
                "bands": BANDS,
                "train_transform": transforms(64),
            },
        },
        "model": {
            "class_path": "terratorch.tasks.SemanticSegmentationTask",
            "init_args": {
                "model_factory": "EncoderDecoderFactory",
                "model_args": {"num_classes": 2, **model_args},
                "loss": "ce",
                "ignore_index": -1,
                "plot_on_val": False,
                **task,
            },
        },
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.001}},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "floods.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    return path


def fit(path: Path) -> Any:
    """What TerraTorch's command line makes of a configuration: its task, data module and trainer, after training."""
    with their_warnings():
        from terratorch.cli_tools import build_lightning_cli

        return build_lightning_cli(["fit", "--config", str(path)])
