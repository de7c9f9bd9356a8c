"""What a process says of itself, as OGC API - Processes describes it, and whether a request fits that.

A fine-tuned model is one process that maps. A pretrained one is two: embeddings, and gaps filled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import prithvi
from prithvi.service.settings import RefusedError, Served, Settings

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
GEOJSON = "application/geo+json"
PARQUET = "application/vnd.apache.parquet"
_SOURCE = {
    "oneOf": [
        {"type": "string", "description": "A path in a folder of the service, or an https address."},
        {"type": "object", "required": ["href"], "properties": {"href": {"type": "string"}}},
    ]
}
_NUMBER = {"type": "number"}


def kinds(model: Served) -> tuple[str, ...]:
    """What is served of a model."""
    return ("map",) if model.needs is not None else ("embed", "fill")


def processes(settings: Settings) -> dict[str, tuple[Served, str]]:
    """Id of each process to its model and kind."""
    return {f"{kind}-{model.name}": (model, kind) for model in settings.models for kind in kinds(model)}


def description(process: str, model: Served, kind: str, settings: Settings) -> dict[str, Any]:
    """A process as pygeoapi wants it.

    Args:
        process: its id.
        model: what it runs.
        kind: map, embed or fill.
        settings: of the service, whose limits are told.

    """
    frames = model.needs.frames if model.needs is not None else 1
    bands, dates = ", ".join(model.bands) or "its bands", f"{frames} dates" if frames > 1 else "one date"
    does = {
        "map": f"Maps a scene with {dates} of {bands} into " + (", ".join(model.classes) or "a quantity") + ".",
        "embed": f"Writes a vector for every patch of a scene of {bands}.",
        "fill": f"Fills the clouds and holes of a series of dates of {bands}.",
    }[kind]
    most = f"At most {settings.max_pixels:,} pixels, times dates."
    return {
        "version": prithvi.__version__,
        "id": process,
        "title": {"map": "Map by", "embed": "Embeddings of", "fill": "Gaps filled by"}[kind] + f" {model.name}",
        "description": f"{does} {most}",
        "keywords": ["prithvi", kind, *model.bands, *model.classes],
        "jobControlOptions": ["sync-execute", "async-execute"],
        "outputTransmission": ["reference"],
        "inputs": _inputs(kind, frames),
        "outputs": _outputs(kind),
        "example": {"inputs": {"scene": "scene.tif"}},
    }


def _inputs(kind: str, frames: int) -> dict[str, Any]:
    several = kind == "fill" or frames > 1
    what = "a file for each date" if several else "a raster, its single-band files, or a STAC item"
    inputs = {
        "scene": _input("Scene", f"Path or address: {what}.", _SOURCE, most="unbounded"),
        "bands": _input(
            "Bands", "Names of all bands of a file in order, or the numbers of the model's, from 1.",
            {"type": "array", "items": {"oneOf": [{"type": "string"}, {"type": "integer", "minimum": 1}]}}, 0,
        ),
        "dates": _input(
            "Dates", "Of each file or step in order, where names do not say it.",
            {"type": "array", "items": {"type": "string", "format": "date"}}, 0,
        ),
        "sensor": _input("Sensor", "Product, such as hls-s30 or sentinel-2-l2a.", {"type": "string"}, 0),
        "level": _input(
            "Level", "Reflectance of the surface (SR) or at the top of the atmosphere (TOA).",
            {"type": "string", "enum": ["SR", "TOA"]}, 0,
        ),
        "scale": _input("Scale", "Value = reflectance x scale.", {"type": "number", "minimum": 0}, 0),
        "offset": _input("Offset", "Added to every value before it is scaled.", _NUMBER, 0),
        "nodata": _input("Nodata", "Value of pixels without data.", _NUMBER, 0),
    }  # fmt: skip
    if kind != "fill":
        inputs["accept"] = _input(
            "Accept", "Use nir_broad where nir_narrow is missing.",
            {"type": "array", "items": {"type": "string", "enum": ["nir_broad"]}}, 0,
        )  # fmt: skip
    if kind == "map":
        box = {"type": "array", "items": _NUMBER, "minItems": 4, "maxItems": 4}
        inputs |= {
            "bbox": _input("Box", "West, south, east, north in degrees: map this part.", box, 0),
            "confidence": _input("Confidence", "Write the chosen class's probability too.", {"type": "boolean"}, 0),
            "polygons": _input(
                "Polygons", "Form of the polygons beside the map.",
                {"type": "string", "enum": ["parquet", "gpkg", "none"], "default": "parquet"}, 0,
            ),
        }  # fmt: skip
    if kind == "embed":
        inputs["pooled"] = _input("Pooled", "One vector a window instead of one a patch.", {"type": "boolean"}, 0)
    if kind == "fill":
        inputs["clouds"] = _input("Clouds", "A mask for each date, in order.", _SOURCE, 0, "unbounded")
        what = "What the masks are, where their names do not say it, such as scl."
        inputs["clouds_are"] = _input("Clouds are", what, {"type": "string"}, 0)
        inputs["uncertainty"] = _input("Uncertainty", "Write standard errors too.", {"type": "boolean"}, 0)
    return inputs


def _input(title: str, text: str, schema: Mapping[str, Any], least: int = 1, most: int | str = 1) -> dict[str, Any]:
    return {
        "title": title, "description": text, "schema": dict(schema), "minOccurs": least, "maxOccurs": most,
    }  # fmt: skip


def _outputs(kind: str) -> dict[str, Any]:
    def output(title: str, text: str, media: str | None = None) -> dict[str, Any]:
        schema = {"type": "object"} if media is None else {"type": "string", "contentMediaType": media}
        return {"title": title, "description": text, "schema": schema}

    summary = output("Summary", "Pixels of each class or date, and notes.")
    if kind == "fill":
        return {"dates": output("Dates", "Links to the files of each date."), "summary": summary}
    if kind == "embed":
        return {"embeddings": output("Embeddings", "Cloud-Optimized GeoTIFF, by a link.", COG), "summary": summary}
    return {
        "map": output("Map", "Cloud-Optimized GeoTIFF, by a link.", COG),
        "item": output("STAC item", "Of a scene with a date, by a link.", GEOJSON),
        "polygons": output("Polygons", "Areas of the classes, by a link.", PARQUET),
        "confidence": output("Confidence", "Probability of the chosen class, where asked for, by a link.", COG),
        "style": output("Style", "For QGIS, by a link.", "application/xml"),
        "metadata": output("Metadata", "What GDAL reads beside the map, by a link.", "application/xml"),
        "summary": summary,
    }


def checked(inputs: Any, process: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a request, each scene a list of addresses.

    Args:
        inputs: of an execute request.
        process: its description.

    Raises:
        RefusedError: one is missing, unknown, or not as described.

    """
    import jsonschema

    if not isinstance(inputs, dict):
        raise RefusedError("inputs must be an object of names and values.")
    known, found = process["inputs"], {}
    for name, value in inputs.items():
        if name not in known:
            raise RefusedError(f"there is no input {name!r}; there are {', '.join(known)}.")
        if isinstance(value, dict) and "value" in value:  # a qualified value
            value = value["value"]
        many = known[name]["maxOccurs"] != 1
        values = value if many and isinstance(value, list) else [value]
        for each in values:
            trouble = next(jsonschema.Draft202012Validator(known[name]["schema"]).iter_errors(each), None)
            if trouble is not None:
                raise RefusedError(f"input {name} is not as described: {trouble.message[:160]}.")
        if many:
            values = [each["href"] if isinstance(each, dict) else each for each in values]
        found[name] = values if many else value
    missing = [name for name, about in known.items() if about["minOccurs"] and not found.get(name)]
    if missing:
        raise RefusedError(f"input {missing[0]} is missing.", 400, "MissingParameterValue")
    return found
