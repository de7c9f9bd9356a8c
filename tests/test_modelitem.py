"""A model folder's STAC item: valid, complete, the same twice, and true to the model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import torch
from pystac.errors import STACValidationError

from prithvi.contract import Contract
from prithvi.errors import ModelError
from prithvi.modelio import load, save, save_pretrained
from prithvi.modelio.item import MLM, fitted_item
from prithvi.modelio.predictor import FittedModel
from prithvi.models import Standardise, build
from prithvi.tasks import RegressionTask
from prithvi.tasks.classification import ClassificationTask
from tests.conftest import small_task
from tests.stac_schemas import read, validate


def test_the_item_is_valid_stac_with_mlm(model_folder: Path) -> None:
    plain = read(model_folder / "item.json")
    assert any("item.json" in schema for schema in validate(plain)[:1])
    assert MLM in validate(plain)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("properties", "mlm:tasks", "semantic-segmentation"),
        ("properties", "mlm:name", "1"),
        ("properties", "mlm:input", [{"name": "image"}]),
        ("properties", "bands", []),
        ("properties", "end_datetime", None),
        ("assets", "weights", {"href": "./model.safetensors", "roles": ["mlm:model"]}),
    ],
)
def test_a_broken_item_is_found_out(section: str, key: str, value: Any, model_folder: Path) -> None:
    plain = copy.deepcopy(read(model_folder / "item.json"))
    plain[section][key] = value
    with pytest.raises(STACValidationError):
        validate(plain)


def test_the_item_leads_to_the_files(model_folder: Path) -> None:
    item = pystac.Item.from_file(str(model_folder / "item.json"))
    files = {key: Path(str(asset.get_absolute_href())) for key, asset in item.assets.items()}
    assert files["weights"] == model_folder / "model.safetensors"
    assert all(file.is_file() for file in files.values())
    assert item.geometry is None
    assert item.bbox is None


def test_what_the_item_says_is_what_the_model_does(fitted: FittedModel, model_folder: Path) -> None:
    told = read(model_folder / "item.json")["properties"]
    assert told["prithvi:weights_sha256"] == fitted.sha256
    assert told["mlm:total_parameters"] == sum(parameter.numel() for parameter in fitted.model.parameters())
    image, scores = told["mlm:input"][0], told["mlm:output"][0]
    assert image["bands"] == [band["name"] for band in told["bands"]] == list(fitted.contract.bands)
    pixels = torch.rand(2, *image["input"]["shape"][1:])
    assert list(fitted.model(pixels).shape[1:]) == scores["result"]["shape"][1:]
    assert len(image["input"]["dim_order"]) == pixels.ndim
    assert scores["classification:classes"][1] == {
        "value": 1, "name": "water", "description": "water", "color_hint": "2B6CB0",
    }  # fmt: skip
    assert told["mlm:hyperparameters"]["seed"] == 0


@pytest.mark.parametrize("clip", [None, (0.0, 1000.0)])
def test_its_pre_processing_is_the_model_s(clip: tuple[float, float] | None) -> None:
    """Somebody who follows the item alone gets what `Standardise` makes of the same reflectance."""
    contract = Contract(("red", "green"), (500.0, 700.5), (100.0, 300.0), clip=clip)
    model = build("prithvi_hls_tiny", 1, 32, ["red", "green"], mean=contract.mean, std=contract.std, clip=clip)
    image = fitted_item_of(model.config.contract)["properties"]["mlm:input"][0]
    reflectance = np.random.default_rng(0).uniform(-0.1, 0.4, (1, 2, 1, 8, 8)).astype(np.float32)
    said = eval(image["pre_processing_function"]["expression"], {"numpy": np, "reflectance": reflectance})
    for band, scaling in enumerate(image["value_scaling"]):
        said[:, band] = (said[:, band] - scaling["mean"]) / scaling["stddev"]
    ours = Standardise(contract)(torch.from_numpy(reflectance * 10_000))
    np.testing.assert_allclose(said, ours.numpy(), rtol=1e-5, atol=1e-5)


def fitted_item_of(contract: Contract) -> dict[str, Any]:
    return fitted_item(small_task(contract=contract.to_dict()).fitted())


def test_the_same_model_has_the_same_item(tmp_path: Path) -> None:
    one, other = (save(small_task().fitted(seed=0), tmp_path / name) for name in ("one", "other"))
    assert (one / "item.json").read_bytes() == (other / "item.json").read_bytes()
    assert (save(load(one), tmp_path / "again") / "item.json").read_bytes() == (one / "item.json").read_bytes()


def test_a_model_s_day_and_data_are_told_where_they_are_known(tmp_path: Path, model_folder: Path) -> None:
    plain = read(save(small_task().fitted(date="2026-11-25", data="Sen1Floods11"), tmp_path / "model") / "item.json")
    assert plain["properties"]["created"] == "2026-11-25T00:00:00Z"
    assert plain["properties"]["mlm:pretrained_source"] == "Sen1Floods11"
    validate(plain)
    without = read(model_folder / "item.json")["properties"]
    assert "created" not in without
    assert (without["datetime"], without["start_datetime"][:4], without["end_datetime"][:4]) == (None, "1900", "9999")


def other_task(kind: type, **options: Any) -> Any:
    base = small_task().hparams
    keep = ("contract", "head", "window", "model_options")
    return kind(**{**{key: base[key] for key in keep}, **options})


def test_quantities_and_whole_chips_have_items_too(tmp_path: Path) -> None:
    quantity = {"name": "biomass", "mean": 120.25, "std": 80.0, "unit": "Mg/ha"}
    plain = read(save(other_task(RegressionTask, quantity=quantity).fitted(), tmp_path / "biomass") / "item.json")
    validate(plain)
    output = plain["properties"]["mlm:output"][0]
    assert (output["name"], output["tasks"]) == ("biomass", ["regression"])
    assert eval(output["post_processing_function"]["expression"], {"x": 1.0}) == 200.25
    assert "classification:classes" not in output
    scenes = other_task(ClassificationTask, classes=["field", "for rest"], colors=["000000", "FFFFFF"], head="pooled")
    plain = read(save(scenes.fitted(), tmp_path / "scenes") / "item.json")
    validate(plain)
    output = plain["properties"]["mlm:output"][0]
    assert (plain["properties"]["mlm:tasks"], output["result"]["shape"]) == (["scene-classification"], [-1, 2])
    assert [entry["name"] for entry in output["classification:classes"]] == ["field", "for_rest"]
    assert [entry["description"] for entry in output["classification:classes"]] == ["field", "for rest"]


def test_a_pretrained_folder_has_an_item(tmp_path: Path) -> None:
    model = build("prithvi_hls_tiny", 2, 32)
    folder = save_pretrained(model, tmp_path / "model", {"date": "2026-11-25", "steps": 3, "data": [{"store": "a"}]})
    plain = read(folder / "item.json")
    assert MLM in validate(plain)
    assert plain["properties"]["mlm:tasks"] == ["generative"]
    assert plain["properties"]["mlm:input"][0]["input"]["shape"] == [-1, 6, 2, 32, 32]
    assert plain["properties"]["mlm:hyperparameters"]["steps"] == 3
    assert plain["id"].startswith("prithvi_hls_tiny-")


def test_a_task_without_a_word_in_mlm_is_refused() -> None:
    fitted = small_task().fitted()
    fitted.task = "counting"
    with pytest.raises(ModelError, match="this model is for counting"):
        fitted_item(fitted)
