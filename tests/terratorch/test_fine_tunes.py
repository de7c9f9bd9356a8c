"""A model trained by TerraTorch's own command line opens here and maps as it does there."""

from __future__ import annotations

import importlib
import inspect
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
import yaml
from rasterio.windows import Window

import prithvi
from prithvi.errors import CheckpointError, ConfigError, ModelError
from prithvi.modelio import save
from prithvi.modelio.predictor import FittedModel
from prithvi.modelio.terratorch_config import TerraTorchRun
from prithvi.models import Standardise
from tests.terratorch.conftest import BANDS, configuration, fit, their_warnings
from tests.terratorch.layouts import has_scale_modules

STOCK = {"backbone": "prithvi_eo_v2_tiny_tl", "backbone_pretrained": False, "backbone_bands": BANDS}
BLOCKS = [{"name": "SelectIndices", "indices": [2, 5, 8, 11]}, {"name": "ReshapeTokensToImage"}]
AUXILIARY = {"name": "aux", "decoder": "FCNDecoder", "decoder_args": {"decoder_channels": 8}}
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "unet": (
        {**STOCK, "necks": [*BLOCKS, {"name": "LearnedInterpolateToPyramidal"}], "decoder": "UNetDecoder",
         "decoder_channels": [64, 32, 16, 8], "head_dropout": 0.1},
        {"aux_heads": [{"class_path": "terratorch.models.model.AuxiliaryHead", "init_args": AUXILIARY}],
         "aux_loss": {"aux": 0.2}, "class_weights": [1.0, 2.0], "class_names": ["Land", "Water"]},
    ),
    "upernet": (
        {**STOCK, "necks": BLOCKS, "decoder": "UperNetDecoder", "decoder_channels": 16, "decoder_scale_modules": True},
        {},
    ),
    "fcn": (
        {**STOCK, "necks": [{"name": "SelectIndices", "indices": [-1]}, {"name": "ReshapeTokensToImage"}],
         "decoder": "FCNDecoder", "decoder_channels": 16, "head_channel_list": [8]},
        {},
    ),
    "ours": (
        {"backbone": "hlsvit_hls_tiny", "backbone_pretrained": True, "backbone_bands": BANDS,
         "decoder": "FCNDecoder", "decoder_channels": 8, "decoder_num_convs": 2},
        {},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """A checkpoint, and the objects of TerraTorch's that made it."""

    path: Path
    cli: Any


@pytest.fixture(scope="module")
def trained(floods: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    made: dict[str, Trained] = {}

    def train(name: str) -> Trained:
        if name == "upernet" and not has_scale_modules():
            pytest.skip("TerraTorch has no scale_modules since 1.2.12; test_layouts.py opens files of older ones")
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            args, task = MODELS[name]
            callbacks = ("prithvi.terratorch.Register",) if name == "ours" else ()
            cli = fit(configuration(floods, folder, args, callbacks, **task))
            (path,) = folder.glob("run/version_0/checkpoints/*.ckpt")
            made[name] = Trained(path, cli)
        return made[name]

    return train


def opened(path: Path, **options: Any) -> FittedModel:
    with their_warnings():
        model = prithvi.load(path, **options)
    assert isinstance(model, FittedModel)
    return model


def scores(fitted: FittedModel, pixels: np.ndarray) -> torch.Tensor:
    """(classes, Y, X) of (band, Y, X) digital numbers, reflectance x 10,000."""
    values = fitted.contract.from_reflectance(pixels.astype(np.float32), 1e-4, 0.0)
    with torch.no_grad():
        found: torch.Tensor = fitted.model(Standardise(fitted.contract)(torch.from_numpy(values)[None, :, None]))[0]
    return found


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "fcn" else [pytest.mark.slow]) for name in MODELS]
)
def test_scores_and_map_of_a_window_are_theirs(
    name: str, trained: Callable[[str], Trained], floods: Path, tmp_path: Path
) -> None:
    run = trained(name)
    fitted = opened(run.path)
    data = run.cli.datamodule
    sample = data.val_dataset[0]  # by its own reader
    image = sample["image"][None, :, :64, :64]
    with their_warnings(), torch.no_grad():
        standardised = data.aug({"image": image})["image"]
        expected = run.cli.model.eval()(standardised).output[0]

    file = data.val_dataset.image_files[0]
    scene = tmp_path / "scene.tif"
    with rasterio.open(file) as raster:
        window = Window(0, 0, 64, 64)
        pixels = raster.read([2, 3, 4, 9, 12, 13], window=window)
        profile = {**raster.profile, "width": 64, "height": 64, "count": 6}
        with rasterio.open(scene, "w", **profile) as cut:
            cut.write(pixels)
            cut.descriptions = tuple(BANDS)
    found = scores(fitted, pixels)
    assert found.shape == expected.shape == (2, 64, 64)
    assert (found - expected).abs().max() <= 1e-5
    assert torch.equal(found.argmax(dim=0), expected.argmax(dim=0))
    assert found.std() > 0.01  # not the same everywhere, which would be equal for nothing

    assert fitted.window == 64  # the random crop of its configuration
    source = prithvi.open_scene(scene, sensor="sentinel-2-l1c", offset=0)
    prithvi.map_scene(fitted, source, tmp_path / "map.tif", device="cpu")
    with rasterio.open(tmp_path / "map.tif") as raster:
        assert np.array_equal(raster.read(1), expected.argmax(dim=0).numpy())


def test_it_knows_what_its_files_say(trained: Callable[[str], Trained]) -> None:
    unet = opened(trained("unet").path)
    assert [entry.name for entry in unet.classes] == ["Land", "Water"]
    assert unet.contract.bands == ("blue", "green", "red", "nir_narrow", "swir_1", "swir_2")
    assert (unet.contract.scale, unet.contract.level, unet.contract.resolution) == (1.0, "TOA", 10.0)
    assert unet.contract.mean[0] == pytest.approx(0.1412956)
    assert "27 not needed" in unet.provenance["weights"]  # the auxiliary head and the weights of the classes
    assert not unet.coordinates
    assert [entry.name for entry in opened(trained("fcn").path).classes] == ["land", "water"]


def test_class_numbers_are_those_of_the_label_files(trained: Callable[[str], Trained], tmp_path: Path) -> None:
    """TerraTorch takes 1 from every label where it is told to, and our maps give it back."""
    path = change(trained("fcn"), tmp_path)
    plain = yaml.safe_load((tmp_path / "config.yaml").read_text())
    for options, values in (
        ({}, [0, 1]),
        ({"reduce_zero_label": True}, [1, 2]),
        ({"reduce_zero_label": False}, [0, 1]),
    ):
        plain["data"]["init_args"] = {**plain["data"]["init_args"], **options}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
        assert [entry.value for entry in opened(path).classes] == values
    crops = TerraTorchRun(None, "", {}, "MultiTemporalCropClassificationDataModule", {})
    assert crops.values(13) == list(range(1, 14))  # whose own default it is
    told = importlib.import_module("terratorch.datamodules.multi_temporal_crop_classification")
    default = inspect.signature(told.MultiTemporalCropClassificationDataModule).parameters["reduce_zero_label"].default
    assert default is True


def test_saved_as_a_folder_it_stays_the_same(trained: Callable[[str], Trained], tmp_path: Path) -> None:
    fitted = opened(trained("unet").path)
    again = opened(save(fitted, tmp_path / "model"))
    pixels = np.random.default_rng(0).integers(0, 4000, (6, 64, 96))
    assert torch.equal(scores(again, pixels), scores(fitted, pixels))
    assert (again.contract, again.classes, again.head_options) == (fitted.contract, fitted.classes, fitted.head_options)


def test_a_checkpoint_alone_asks_for_its_statistics_and_takes_them(
    trained: Callable[[str], Trained], tmp_path: Path
) -> None:
    run = trained("fcn")
    alone = Path(shutil.copy(run.path, tmp_path / "alone.ckpt"))
    with pytest.raises(CheckpointError, match=r"no YAML beside it.*pass config= .*or mean= and std="):
        opened(alone)
    fitted = opened(run.path)
    named = opened(alone, config=run.path.parents[1] / "config.yaml")
    given = opened(
        alone, mean=[10_000 * value for value in fitted.contract.mean], std=[10_000 * v for v in fitted.contract.std]
    )
    pixels = np.random.default_rng(0).integers(0, 4000, (6, 64, 64))
    assert torch.equal(scores(named, pixels), scores(fitted, pixels))
    assert (scores(given, pixels) - scores(fitted, pixels)).abs().max() <= 1e-5
    assert given.contract.scale == 10_000
    assert given.window == 224


def test_plain_weights_open_with_the_configuration(trained: Callable[[str], Trained], tmp_path: Path) -> None:
    run = trained("fcn")
    state = torch.load(run.path, weights_only=True)["state_dict"]
    torch.save({"state_dict": state}, tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="say architecture="):
        opened(tmp_path / "weights.pt")
    pixels = np.random.default_rng(0).integers(0, 4000, (6, 64, 64))
    found = opened(tmp_path / "weights.pt", config=run.path.parents[1] / "config.yaml")
    assert torch.equal(scores(found, pixels), scores(opened(run.path), pixels))


TOKENS = {"name": "ReshapeTokensToImage", "effective_time_dim": 2}
IN_PYTHON: dict[str, tuple[str, dict[str, Any]]] = {
    "two dates": (
        "EncoderDecoderFactory",
        {"backbone": "prithvi_eo_tiny", "backbone_num_frames": 2, "necks": [TOKENS]},
    ),
    "chosen by the backbone": (
        "EncoderDecoderFactory",
        {"backbone": "prithvi_eo_v2_tiny_tl", "backbone_num_frames": 2, "backbone_kwargs": None,
         "backbone_out_indices": [2, 7], "necks": [{"name": "SelectIndices", "indices": [1]}, TOKENS]},
    ),
    "the older factory": (
        "PrithviModelFactory",
        {"backbone": "prithvi_eo_v2_tiny_tl", "num_frames": 2, "pretrained": False, "in_channels": 6},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_PYTHON)
def test_a_task_made_in_python_with_enums_and_auxiliary_heads(name: str, tmp_path: Path) -> None:
    factory, args = IN_PYTHON[name]
    with their_warnings():
        import lightning as L
        from terratorch.datasets import HLSBands
        from terratorch.models.model import AuxiliaryHead
        from terratorch.tasks import SemanticSegmentationTask

        bands = [HLSBands(band) for band in BANDS]
        named = {"bands": bands} if factory == "PrithviModelFactory" else {"backbone_bands": bands}
        task = SemanticSegmentationTask(
            model_args={**args, **named, "decoder": "FCNDecoder", "decoder_channels": 8, "num_classes": 3},
            model_factory=factory, aux_heads=[AuxiliaryHead("aux", "FCNDecoder", None)], aux_loss={"aux": 1.0},
        )  # fmt: skip
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        trainer.strategy.connect(task)
        trainer.save_checkpoint(tmp_path / "task.ckpt")
    fitted = opened(tmp_path / "task.ckpt", mean=[1000.0] * 6, std=[500.0] * 6)
    assert [entry.name for entry in fitted.classes] == ["class 0", "class 1", "class 2"]
    # In float64, for the norm over eight channels makes much of the last digits of float32.
    model, theirs = fitted.model.double(), task.double().eval()
    images = torch.randn(2, 6, 2, 64, 64, dtype=torch.float64)
    coordinates = {}
    if model.config.coords_encoding:
        coordinates["temporal_coords"] = torch.tensor([[[2020.0, 100.0], [2020.0, 200.0]]] * 2)
        coordinates["location_coords"] = torch.tensor([[40.0, -3.0], [-33.0, 151.0]])
    with torch.no_grad():
        expected = theirs(images, **coordinates).output
        assert (model(images, **coordinates) - expected).abs().max() <= 1e-10
        if coordinates:
            assert (model(images) - expected).abs().max() > 1e-4


def change(run: Trained, folder: Path, **model: Any) -> Path:
    """The checkpoint with some hyper-parameters changed, beside its configuration without these."""
    content = torch.load(run.path, weights_only=True)
    for key, value in model.items():
        if key in content["hyper_parameters"]:
            content["hyper_parameters"][key] = value
        else:
            content["hyper_parameters"]["model_args"][key] = value
    torch.save(content, folder / "changed.ckpt")
    plain = yaml.safe_load((run.path.parents[1] / "config.yaml").read_text())
    plain["model"]["init_args"].pop("model_args")
    (folder / "config.yaml").write_text(yaml.safe_dump(plain))
    return folder / "changed.ckpt"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "terramind_v1_base"}, "the backbone 'terramind_v1_base'"),
        ({"model_factory": "SMPModelFactory"}, "the model factory SMPModelFactory; known here are EncoderDecoderFact"),
        ({"_class_path": "terratorch.tasks.PixelwiseRegressionTask"}, "is of PixelwiseRegressionTask"),
        ({"decoder": "MyDecoder"}, "no head 'MyDecoder'"),
        ({"necks": [{"name": "MyNeck"}]}, "no neck 'MyNeck'"),
        ({"peft_config": {"method": "LORA"}}, "was made with peft_config"),
        ({"backbone_vit_adapter": True}, "was made with backbone_vit_adapter"),
        ({"num_classes": 3}, r"nothing was loaded: .*wrong shape \(head.head.head.2.weight"),
        ({"decoder_num_convs": 3}, r"nothing was loaded: .*6 left over"),
        ({"decoder_num_convs": 5}, r"nothing was loaded: .*6 missing \(head.decoder.convs.4"),
        ({"class_names": ["a", "b", "c"]}, "has 2 classes and the class_names a, b, c"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_not_known_is_refused_by_name(
    changes: dict[str, Any], message: str, trained: Callable[[str], Trained], tmp_path: Path
) -> None:
    path = change(trained("fcn"), tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message):
        opened(path)


def test_another_models_configuration_is_refused(trained: Callable[[str], Trained], tmp_path: Path) -> None:
    other = trained("unet").path.parents[1] / "config.yaml"
    with pytest.raises(ConfigError, match=r"is of another model than .*: decoder UNetDecoder, not FCNDecoder"):
        opened(trained("fcn").path, config=other)
    path = Path(shutil.copy(trained("fcn").path, tmp_path / "x.ckpt"))
    for name in ("a.yaml", "b.yaml"):
        shutil.copy(other, tmp_path / name)
    with pytest.raises(ConfigError, match=r"several configurations \(a.yaml, b.yaml\)"):
        opened(path)


def test_generic_data_must_say_what_its_means_are_of(trained: Callable[[str], Trained], tmp_path: Path) -> None:
    path = change(trained("fcn"), tmp_path)
    plain = yaml.safe_load((tmp_path / "config.yaml").read_text())
    reference = opened(path).contract
    plain["data"] = {
        "class_path": "terratorch.datamodules.GenericNonGeoSegmentationDataModule",
        "init_args": {"means": list(reference.mean), "stds": list(reference.std), "output_bands": BANDS},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(CheckpointError, match=r"says means \(0.14.*pass scale=10000"):
        opened(path)
    found = opened(path, scale=1).contract
    assert (found.mean, found.std, found.scale, found.level) == (reference.mean, reference.std, 1, None)
    plain["data"]["class_path"] = "terratorch.datamodules.BioMasstersNonGeoDataModule"
    plain["data"]["init_args"] = {"bands": BANDS}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(CheckpointError, match="has the data 'BioMasstersNonGeoDataModule', so the means"):
        opened(path)
