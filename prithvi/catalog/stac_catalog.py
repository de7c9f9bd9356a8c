"""Public datasets out of the shipped STAC catalog.

Each is a collection in data_catalog/; what STAC has no field for stands under `prithvi:layout` (files and pixels),
`prithvi:hub` (a repository on the Hugging Face hub) and `prithvi:source` (an archive elsewhere).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from prithvi.bands import common_name
from prithvi.catalog.chip_lists import Split
from prithvi.catalog.datasets import DatasetLayout
from prithvi.catalog.sensors import sensor as sensor_named
from prithvi.catalog.shipped import data_catalog
from prithvi.contract import Category, Contract
from prithvi.errors import DatasetError, nearest


def dataset_names() -> list[str]:
    """The datasets in the catalog."""
    return sorted(path.parent.name for path in data_catalog().glob("*/collection.json"))


def collection(name: str) -> dict[str, Any]:
    """A dataset's STAC collection, as JSON holds it.

    Raises:
        DatasetError: there is none (with the nearest names).

    """
    path = data_catalog() / name / "collection.json"
    if not path.is_file():
        raise DatasetError(f"there is no dataset {name!r}: {nearest(name, dataset_names())}")
    plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return plain


@cache
def dataset(name: str) -> DatasetLayout:
    """A dataset by name.

    Raises:
        DatasetError: there is none (with the nearest names).

    """
    plain = collection(name)
    layout = plain["prithvi:layout"]
    label = plain["item_assets"].get("label", {})
    classes = label.get("classification:classes", [])
    product = sensor_named(layout["sensor"])
    bands = layout.get("bands") or [common_name(identifier, product.product) for identifier in product.stack]
    return DatasetLayout(
        name=name,
        image=layout["image"],
        label=layout.get("label"),
        sensor=layout["sensor"],
        classes=tuple(
            Category(entry["value"], entry["name"], entry["color_hint"]) for entry in classes if not entry.get("nodata")
        ),
        ignore=tuple(entry["value"] for entry in classes if entry.get("nodata")),
        contract=Contract.from_dict(layout["contract"]),
        splits=_splits(plain, data_catalog() / name),
        bands=tuple(bands),
        frames=layout.get("frames", 1),
        order=layout.get("order"),
        gain=layout.get("gain", product.gain),
        bias=0.0 if "gain" in layout else product.bias,
        nodata=tuple(layout.get("nodata", ())),
        dates=layout.get("dates", {}),
    )


def _splits(plain: dict[str, Any], folder: Path) -> dict[str, Split]:
    own = plain["prithvi:layout"].get("splits", {})
    lists = {key: folder / asset["href"] for key, asset in plain.get("assets", {}).items() if "split" in asset["roles"]}
    found = {}
    for name in [*lists, *(key for key in own if key not in lists)]:
        given = own.get(name, {})
        where = tuple((column, sign, str(value)) for column, sign, value in given.get("where", ()))
        found[name] = Split(
            lists.get(name), given.get("folder", ""), given.get("table", ""), given.get("column", ""), where
        )
    return found
