"""A model folder as a STAC item with the MLM extension: how catalogs of models list and search it.

STAC 1.1, Machine Learning Model (MLM) 1.4.0, Classification 1.1.0. A model has no place and no time of its own: the
geometry is null, and the time runs from 1900 to 9999, which MLM's own examples write for a model that is not bound to
any; the day it was made, where its record says one, is `created`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import torch

from prithvi.contract import Contract
from prithvi.errors import ModelError
from prithvi.modelio.predictor import Predictor
from prithvi.models import PrithviMAE, Segmenter

MLM = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
CLASSIFICATION = "https://stac-extensions.github.io/classification/v1.1.0/schema.json"
Json = Mapping[str, Any]
_TASKS = {"segmentation": "semantic-segmentation", "classification": "scene-classification", "regression": "regression"}
_IMAGE = ["batch", "channel", "time", "height", "width"]
_NUMBER = r"0|[1-9][0-9]*"
_SAFETENSORS = "application/octet-stream; application=safetensors"


def fitted_item(fitted: Predictor) -> dict[str, Any]:
    """The item of a fine-tuned model, as JSON holds it; the weights' hash must be known.

    Raises:
        ModelError: MLM has no word for its task.

    """
    if fitted.task not in _TASKS:
        raise ModelError(f"a model's STAC item is for {', '.join(_TASKS)}; this model is for {fitted.task}.")
    hyper = {key: getattr(fitted, key) for key in ("head", "window", "coordinates", "temperature")}
    kind = "Vision Transformer" if fitted.model.encoder is not None else fitted.head
    named = {"mlm:name": _name(f"{fitted.name} {fitted.task}"), "mlm:architecture": kind}
    image = _input(fitted.contract, fitted.frames, (fitted.window, fitted.window))
    return _item(fitted.model, fitted.provenance, fitted.sha256, named, image, _output(fitted), hyper)


def pretrained_item(model: PrithviMAE, sha256: str, training: Json) -> dict[str, Any]:
    """The item of a masked autoencoder, as JSON holds it.

    Args:
        model: the model.
        sha256: of its weights file.
        training: the record of how it was made.

    """
    config = model.config
    output = {
        "name": "pixels",
        "tasks": ["generative"],
        "description": "Patches that were hidden, as the others let expect them; standardised as the input is.",
        "result": _array(_IMAGE, [len(config.bands), config.num_frames, *config.img_size]),
    }
    named = {"mlm:name": _name(config.architecture), "mlm:architecture": "Masked Autoencoder"}
    image = _input(model.contract, config.num_frames, config.img_size)
    return _item(model, training, sha256, named, image, output, {"mask_ratio": config.mask_ratio})


def _item(
    model: Segmenter | PrithviMAE, record: Json, sha256: str, named: Json, image: Json, output: Json, hyper: Json
) -> dict[str, Any]:
    config, bands = model.config, [{"name": band} for band in image["bands"]]
    created, data = _day(record.get("date")), record.get("data")
    version = re.match(rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})", torch.__version__)
    sizes = ("patch_size", "embed_dim", "depth", "num_heads") if model.encoder is not None else ()
    shape = {key: config.to_dict()[key] for key in sizes}
    run = {key: record[key] for key in ("steps", "seed") if isinstance(record.get(key), int)}
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM, CLASSIFICATION] if "classification:classes" in output else [MLM],
        "id": f"{config.architecture}-{sha256[:12]}",
        "geometry": None,
        "properties": {
            "datetime": None,
            "start_datetime": "1900-01-01T00:00:00Z",
            "end_datetime": "9999-12-31T23:59:59Z",
            **({"created": created} if created else {}),
            **named,
            "mlm:tasks": output["tasks"],
            "mlm:framework": "PyTorch",
            **({"mlm:framework_version": version[0]} if version else {}),
            "mlm:total_parameters": sum(tensor.numel() for tensor in list(model.parameters()) or model.buffers()),
            "mlm:pretrained": True,  # in MLM's sense: the weights lie beside the item
            **({"mlm:pretrained_source": data} if isinstance(data, str) and data else {}),
            "mlm:accelerator": None,
            "mlm:input": [image],
            "mlm:output": [output],
            "mlm:hyperparameters": {**shape, **hyper, **run},
            "bands": bands,  # MLM looks for them here, and STAC allows them here where an asset has them too
            "prithvi:weights_sha256": sha256,
        },
        "links": [],
        "assets": {
            "weights": {
                **_asset("model.safetensors", "Weights (safetensors)", _SAFETENSORS),
                "roles": ["mlm:model", "mlm:weights"],
                "bands": bands,
                "mlm:artifact_type": "safetensors.torch.save_file",
            },
            "config": _asset("config.json", "Shape, contract, classes and how it was made", "application/json"),
            "card": _asset("README.md", "The same for people", "text/markdown"),
        },
    }


def _asset(file: str, title: str, kind: str) -> dict[str, Any]:
    return {"href": f"./{file}", "title": title, "type": kind, "roles": ["metadata"]}


def _input(contract: Contract, frames: int, size: tuple[int, int]) -> dict[str, Any]:
    level = {"SR": "surface reflectance", "TOA": "top-of-atmosphere reflectance", None: "reflectance"}[contract.level]
    units = f"reflectance * {contract.scale:g}"
    if contract.clip is not None:
        units = f"numpy.clip({units}, {contract.clip[0]:g}, {contract.clip[1]:g})"
    return {
        "name": "image",
        "description": f"{level.capitalize()}"
        + (f", pixels of {contract.resolution:g} m" if contract.resolution else "")
        + f"; first the pre-processing, then the value scaling, then {contract.nodata:g} where there is no data.",
        "bands": list(contract.bands),
        "input": _array(_IMAGE, [len(contract.bands), frames, *size]),
        "pre_processing_function": {"format": "numpy", "expression": units},
        "value_scaling": [
            {"type": "z-score", "mean": mean, "stddev": std}
            for mean, std in zip(contract.mean, contract.std, strict=True)
        ],
        "resize_type": None,
    }


def _output(fitted: Predictor) -> dict[str, Any]:
    side, quantity = fitted.window, fitted.quantity
    if quantity is not None:
        return {
            "name": quantity.name,
            "tasks": ["regression"],
            "description": f"{quantity}, standardised.",
            "result": _array(["batch", "channel", "height", "width"], [1, side, side]),
            "post_processing_function": {"format": "numpy", "expression": f"x * {quantity.std} + {quantity.mean}"},
        }
    pooled = fitted.task == "classification"
    dims = ["batch", "class"] if pooled else ["batch", "class", "height", "width"]
    return {
        "name": "scores",
        "tasks": [_TASKS[fitted.task]],
        "description": f"Scores; divided by {fitted.temperature:g}, their softmax is the confidence.",
        "result": _array(dims, [len(fitted.classes)] if pooled else [len(fitted.classes), side, side]),
        "classification:classes": [entry.to_stac() for entry in fitted.classes],
        "post_processing_function": {"format": "numpy", "expression": "numpy.argmax(x, axis=1)"},
    }


def _array(dims: list[str], sizes: Sequence[int]) -> dict[str, Any]:
    return {"shape": [-1, *sizes], "dim_order": dims, "data_type": "float32"}


def _day(told: Any) -> str | None:
    """A day as the time it begins; None for what is no day."""
    try:
        return f"{date.fromisoformat(str(told)).isoformat()}T00:00:00Z"
    except ValueError:
        return None


def _name(text: str) -> str:
    """As MLM lets models be called: letters, digits and `_.-`, a letter first and no sign last."""
    name = re.sub(r"[^0-9A-Za-z_.\-\s]+", "-", text).strip("_.- ")
    return name if re.match(r"[A-Za-z].*[A-Za-z0-9]$", name) and len(name) > 2 else f"prithvi {name}".strip()
