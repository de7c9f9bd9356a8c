"""A CWL application package of a model, after OGC 20-089 (Best Practice for Earth Observation Application Package).

A platform stages a scene in as a folder with a STAC catalog, runs `prithvi.service.staged`, and stages the folder with
the map and its own catalog out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import prithvi
from prithvi.errors import ConfigError
from prithvi.files import write_text
from prithvi.modelio.model_files import SHIPPED
from prithvi.service.settings import Served

_OPTIONS: dict[str, tuple[str, str, str]] = {
    "bands": ("--bands", "string?", "Names of all bands of a file in order, or numbers of the model's, from 1."),
    "date": ("--date", "string?", "Date of the scene, where neither its item nor its name says it."),
    "sensor": ("--sensor", "string?", "Product, such as hls-s30 or sentinel-2-l2a."),
    "level": ("--level", "string?", "SR (reflectance of the surface) or TOA (top of the atmosphere)."),
    "scale": ("--scale", "float?", "Value = reflectance x scale."),
    "offset": ("--offset", "float?", "Added to every value before it is scaled."),
    "polygons": ("--polygons", "string?", "Form of the polygons beside the map: parquet, gpkg or none."),
    "confidence": ("--confidence", "boolean?", "Write the chosen class's probability too."),
}
"""Inputs of the package: option of `prithvi map`, type of CWL, and what they say."""


def package(model: Served, image: str | None = None) -> dict[str, Any]:
    """The package of a model that maps.

    Args:
        model: one that comes with prithvi is named; any other's folder becomes an input.
        image: of a container in which prithvi is installed.

    Raises:
        ConfigError: a model that does not map.

    """
    if model.needs is None:
        raise ConfigError(f"{model.name} is a pretrained model, and packages map: give a fine-tuned one (prithvi fit).")
    shipped = Path(model.source).parent == SHIPPED
    inputs = {
        name: {"type": kind, "label": name.capitalize(), "doc": text} for name, (_, kind, text) in _OPTIONS.items()
    }
    scene = {"type": "Directory", "label": "Scene", "doc": "Folder with a STAC catalog of one item, or with its files."}
    folder = {"type": "Directory", "label": "Model", "doc": "The model folder."}
    inputs = {"scene": scene, **({} if shipped else {"model": folder}), **inputs}
    made = {"type": "Directory", "label": "Map", "doc": "Folder with the map, its STAC item and a catalog."}
    bound: dict[str, Any] = {
        name: {"type": kind, "inputBinding": {"position": 4, "prefix": option}}
        for name, (option, kind, _) in _OPTIONS.items()
    }
    bound["scene"] = {"type": "Directory", "inputBinding": {"position": 2}}
    bound["model"] = {"type": "Directory", "inputBinding": {"position": 1}}
    tool = {
        "class": "CommandLineTool",
        "id": "map",
        "baseCommand": ["python", "-m", "prithvi.service.staged"],
        "arguments": [
            *([{"position": 1, "valueFrom": Path(model.source).name}] if shipped else []),
            {"position": 3, "prefix": "--output", "valueFrom": "result"},
        ],
        "inputs": {name: bound[name] for name in inputs},
        "outputs": {"result": {"type": "Directory", "outputBinding": {"glob": "result"}}},
        "requirements": {"ResourceRequirement": {"coresMin": 1, "ramMin": 4096}},
        **({"hints": {"DockerRequirement": {"dockerPull": image}}} if image else {}),
    }
    workflow = {
        "class": "Workflow",
        "id": model.name,
        "label": f"Map by {model.name}",
        "doc": f"Maps a scene of {', '.join(model.bands)} into {', '.join(model.classes) or 'a quantity'}.",
        "inputs": inputs,
        "outputs": {"result": {**made, "outputSource": "map/result"}},
        "steps": {"map": {"run": "#map", "in": {name: name for name in inputs}, "out": ["result"]}},
    }
    return {
        "cwlVersion": "v1.2",
        "$namespaces": {"s": "https://schema.org/"},
        "s:softwareVersion": prithvi.__version__,
        "s:name": model.name,
        "$graph": [workflow, tool],
    }


def write_package(models: Sequence[Served], path: Path, image: str | None = None) -> Path:
    """Writes the package of the one model.

    Raises:
        ConfigError: several models, or see `package`.
        OutputError: it cannot be written.

    """
    import yaml

    if len(models) != 1:
        raise ConfigError(f"a package is of one model, and {len(models)} were given.")
    return write_text(path, yaml.safe_dump(package(models[0], image), sort_keys=False, width=100))
