"""Public datasets: where their files lie, what their pixels and labels mean, and the official splits.

Each is a STAC collection in data_catalog/; what STAC has no field for stands under `prithvi:layout`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from prithvi.catalog.places import data_catalog
from prithvi.contract import Contract
from prithvi.errors import DatasetError, nearest


@dataclass(frozen=True)
class LabelClass:
    """One class of a label map."""

    value: int
    name: str
    color: str
    """Six hexadecimal digits, RRGGBB."""


@dataclass(frozen=True)
class DatasetLayout:
    """One labelled dataset."""

    name: str
    image: str
    """Path of a chip's image under the root, with `{id}`."""
    label: str
    """Path of its label, with `{id}`."""
    sensor: str
    """Key of `prithvi.catalog.SENSORS`."""
    classes: tuple[LabelClass, ...]
    """In the order of the model's outputs."""
    ignore: tuple[int, ...]
    """Label values that say nothing."""
    contract: Contract
    """Bands and statistics of the published recipe."""
    splits: dict[str, Path]
    """Split name to the official list of chip ids."""

    def chip_ids(self, split: str, folder: Path | None = None) -> list[str]:
        """The ids of one split, whole names, in the order of the list.

        Args:
            split: a key of `splits`.
            folder: a folder with lists of the same file names, to use instead of the official ones.

        Raises:
            DatasetError: no such split, no such list, or an empty one.

        """
        if split not in self.splits:
            raise DatasetError(f"{self.name} has no split {split!r}: {nearest(split, self.splits)}")
        path = self.splits[split] if folder is None else folder / self.splits[split].name
        if not path.is_file():
            raise DatasetError(f"the list of the {split} split is not there: {path}.")
        # The archives also list both file names of a chip in a line: Ghana_1_S1Hand.tif,Ghana_1_LabelHand.tif.
        suffixes = [pattern.rsplit("{id}", 1)[1] for pattern in (self.image, self.label)] + ["_S1Hand.tif"]
        ids = []
        for line in path.read_text(encoding="utf-8").splitlines():
            name = line.split(",")[0].strip()
            for suffix in suffixes:
                name = name.removesuffix(suffix)
            if name:
                ids.append(name)
        if not ids:
            raise DatasetError(f"the list of the {split} split is empty: {path}.")
        return ids


def dataset_names() -> list[str]:
    """The datasets in the catalog that have a layout."""
    return sorted(path.parent.name for path in data_catalog().glob("*/collection.json"))


@cache
def dataset(name: str) -> DatasetLayout:
    """A dataset by name.

    Raises:
        DatasetError: there is none (with the nearest names).

    """
    path = data_catalog() / name / "collection.json"
    if not path.is_file():
        raise DatasetError(f"there is no dataset {name!r}: {nearest(name, dataset_names())}")
    collection: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    layout = collection["prithvi:layout"]
    classes = collection["item_assets"]["label"]["classification:classes"]
    return DatasetLayout(
        name=name,
        image=layout["image"],
        label=layout["label"],
        sensor=layout["sensor"],
        classes=tuple(
            LabelClass(entry["value"], entry["name"], entry["color_hint"])
            for entry in classes
            if not entry.get("nodata")
        ),
        ignore=tuple(entry["value"] for entry in classes if entry.get("nodata")),
        contract=Contract.from_dict(layout["contract"]),
        splits={
            key: path.parent / asset["href"] for key, asset in collection["assets"].items() if "split" in asset["roles"]
        },
    )
