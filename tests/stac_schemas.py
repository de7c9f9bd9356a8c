"""STAC items validated without a network: pystac has the core schema, ../shared/schemas those of extensions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pystac
import pytest
from pystac.validation import RegisteredValidator

from tests.conftest import SHARED

SCHEMAS = SHARED.parent / "schemas"
HOME = "https://stac-extensions.github.io"
PROJECTION = f"{HOME}/projection/v2.0.0/schema.json"


def numbers(*counts: int, kind: str = "number") -> dict[str, Any]:
    return {
        "type": "array",
        "items": {"type": kind},
        "oneOf": [{"minItems": count, "maxItems": count} for count in counts],
    }


FIELDS = {
    "proj:code": {"type": ["string", "null"], "pattern": "^[A-Za-z0-9]+:[A-Za-z0-9]+$"},
    "proj:wkt2": {"type": ["string", "null"]},
    "proj:bbox": numbers(4, 6),
    "proj:shape": numbers(2, kind="integer"),
    "proj:transform": numbers(6, 9),
}
BY_HAND = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "$id": PROJECTION,
    "type": "object",
    "required": ["stac_extensions", "properties"],
    "properties": {
        "stac_extensions": {"type": "array", "contains": {"const": PROJECTION}},
        "properties": {
            "type": "object",
            "required": ["proj:code"],
            "properties": FIELDS,
            "patternProperties": {"^(?!proj:)": {}},
            "additionalProperties": False,
        },
    },
}
"""The fields of the projection extension that we write, after its README; its own schema is not at hand."""


def validate(plain: dict[str, Any]) -> list[str]:
    """Addresses of the schemas that an item was held against, the core first; skips where they are not at hand."""
    if not SCHEMAS.is_dir():
        pytest.skip("needs the schemas of STAC extensions in ../shared/schemas, which are not shipped")
    cache = RegisteredValidator.get_validator().schema_cache
    for file in SCHEMAS.glob("*.json"):
        name, _, version = file.stem.rpartition("-")
        cache[f"{HOME}/{name}/{version}/schema.json"] = json.loads(file.read_text(encoding="utf-8"))
    cache[PROJECTION] = BY_HAND
    return [str(schema) for schema in pystac.validation.validate_dict(plain)]


def read(path: Path) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    return plain


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
