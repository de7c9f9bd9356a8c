"""Public datasets: where their files lie, what their pixels and labels mean, and the official splits.

Each is a STAC collection in data_catalog/; what STAC has no field for stands under `prithvi:layout`.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from prithvi.bands import check_names, common_name
from prithvi.catalog.places import data_catalog
from prithvi.catalog.sensors import sensor as sensor_named
from prithvi.contract import IGNORE, Contract
from prithvi.errors import DatasetError, nearest


@dataclass(frozen=True)
class LabelClass:
    """One class of a label map."""

    value: int
    name: str
    color: str
    """Six hexadecimal digits, RRGGBB."""


@dataclass(frozen=True)
class Split:
    """Where the chips of one part are listed."""

    list: Path | None = None
    """The official list of chip ids, shipped with the catalog."""
    folder: str = ""
    """What stands for `{split}` in the paths of its files."""
    table: str = ""
    """CSV file under the root that lists chips."""
    column: str = ""
    """Column of the table with the ids."""
    where: tuple[tuple[str, str, str], ...] = ()
    """(column, `==` or `<`, value): which rows of the table belong to the part."""


@dataclass(frozen=True)
class ChipFiles:
    """The files of one chip."""

    id: str
    image: Path
    label: Path | None
    dates: tuple[dt.date, ...] | None = None


@dataclass(frozen=True)
class DatasetLayout:
    """One dataset of chips."""

    name: str
    image: str
    """Path of a chip's image under the root, with `{id}` (and `{split}`)."""
    label: str | None
    """Path of its label; None for a dataset without labels."""
    sensor: str
    """Key of `prithvi.catalog.SENSORS`."""
    classes: tuple[LabelClass, ...]
    """In the order of the model's outputs."""
    ignore: tuple[int, ...]
    """Label values that say nothing."""
    contract: Contract
    """Bands and statistics of the published recipe."""
    splits: dict[str, Split]
    bands: tuple[str, ...]
    """Common names of the bands of one date, in the order of the file."""
    frames: int = 1
    """Dates in a file."""
    order: str | None = None
    """`time-major` (all bands of the first date first) or `band-major`, for files of several dates."""
    gain: float = 1e-4
    """Reflectance = value x gain."""
    nodata: tuple[float, ...] = ()
    """Values of pixels without data."""
    dates: dict[str, Any] = field(default_factory=dict)
    """`table`, `column` and `dates`: a CSV file under the root with the dates of each chip. Or `pattern`: a regular
    expression that finds year and day of the year in a chip's id."""

    def chip_ids(self, split: str, folder: Path | None = None, root: Path | None = None) -> list[str]:
        """The ids of one split, whole names, in the order of the list.

        Args:
            split: a key of `splits`.
            folder: a folder with lists of the same file names, to use instead of the official ones.
            root: where the archive was unpacked, for datasets that list their chips there.

        Raises:
            DatasetError: no such split, no such list, or an empty one.

        """
        if split not in self.splits:
            raise DatasetError(f"{self.name} has no split {split!r}: {nearest(split, self.splits)}")
        source = self.splits[split]
        if source.list is not None:
            path = source.list if folder is None else folder / source.list.name
            ids = self._listed(split, path)
        elif root is None:
            raise DatasetError(f"{self.name} lists the chips of its {split} split in its own archive: give its folder.")
        else:
            path = root / (source.table or source.folder)
            ids = self._tabled(split, path, source) if source.table else self._found(root, source)
        if not ids:
            raise DatasetError(f"the list of the {split} split is empty: {path}.")
        return ids

    def chips(self, root: Path, split: str, folder: Path | None = None) -> list[ChipFiles]:
        """The files of a split, all of which are there.

        Args:
            root: folder that the archive was unpacked into.
            split: a key of `splits`.
            folder: see `chip_ids`.

        Raises:
            DatasetError: as `chip_ids`; or a file is missing: the message counts them and names the first.

        """
        ids = self.chip_ids(split, folder, root)
        dates = self._dates(root)
        part = self.splits[split].folder
        chips = [
            ChipFiles(
                id,
                root / self.image.format(id=id, split=part),
                root / self.label.format(id=id, split=part) if self.label is not None else None,
                dates.get(id) or self._dated(id),
            )
            for id in ids
        ]
        files = [path for chip in chips for path in (chip.image, chip.label) if path is not None]
        missing = [str(path) for path in files if not path.is_file()]
        if missing:
            raise DatasetError(
                f"{len(missing)} of the {len(files)} files of the {split} split of {self.name} are not "
                f"under {root}: {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}."
            )
        return chips

    def class_numbers(self, stored: npt.NDArray[Any], nodata: float | None, where: Path | str) -> npt.NDArray[np.int64]:
        """A label raster's values as class numbers; what says nothing (nodata, NaN, an ignored value) is `IGNORE`.

        Raises:
            DatasetError: a value that is neither a class nor known to say nothing.

        """
        silent = ~np.isfinite(stored) | np.isin(stored, self.ignore)
        if nodata is not None:
            silent |= stored == nodata
        classes = np.full(stored.shape, IGNORE, dtype=np.int64)
        known = silent.copy()
        for number, entry in enumerate(self.classes):
            here = (stored == entry.value) & ~silent
            classes[here] = number
            known |= here
        if not known.all():
            strange = np.unique(stored[~known])[:5]
            raise DatasetError(
                f"{where} holds the label {', '.join(f'{value:g}' for value in strange)}; {self.name} has "
                f"{', '.join(f'{entry.value} ({entry.name})' for entry in self.classes)} and ignores "
                f"{', '.join(map(str, self.ignore)) or 'none'}."
            )
        return classes

    def _listed(self, split: str, path: Path) -> list[str]:
        if not path.is_file():
            raise DatasetError(f"the list of the {split} split is not there: {path}.")
        # The archives also list both file names of a chip in a line: Ghana_1_S1Hand.tif,Ghana_1_LabelHand.tif.
        patterns = [pattern for pattern in (self.image, self.label) if pattern is not None]
        suffixes = [pattern.rsplit("{id}", 1)[1] for pattern in patterns] + ["_S1Hand.tif"]
        ids = []
        for line in path.read_text(encoding="utf-8").splitlines():
            name = line.split(",")[0].strip()
            for suffix in suffixes:
                name = name.removesuffix(suffix)
            if name:
                ids.append(name)
        return ids

    def _tabled(self, split: str, path: Path, source: Split) -> list[str]:
        if not path.is_file():
            raise DatasetError(f"the table of the {split} split is not there: {path}.")
        kept = []
        for row in _rows(path, [source.column, *(name for name, _, _ in source.where)]):
            fits = (
                float(row[name]) < float(value) if sign == "<" else _same(row[name], value)
                for name, sign, value in source.where
            )
            if all(fits):
                kept.append(row[source.column].strip())
        return sorted(kept)

    def _found(self, root: Path, source: Split) -> list[str]:
        """Ids by what files are there."""
        before, after = self.image.format(id="*", split=source.folder).split("*")
        pattern = Path(before)
        inside = root / (pattern if before.endswith("/") else pattern.parent)
        stem = "" if before.endswith("/") else pattern.name
        names = (path.name for path in inside.glob(f"{stem}*{after}"))
        return sorted(name[len(stem) : len(name) - len(after)] for name in names)

    def _dates(self, root: Path) -> dict[str, tuple[dt.date, ...]]:
        """Dates of every chip that the dataset's own table names; empty where there is no table."""
        path = root / self.dates.get("table", "")
        if "table" not in self.dates or not path.is_file():
            return {}
        columns: list[str] = self.dates["dates"]
        found = {}
        for row in _rows(path, [self.dates["column"], *columns]):
            try:
                found[row[self.dates["column"]]] = tuple(dt.date.fromisoformat(row[name][:10]) for name in columns)
            except ValueError as error:
                raise DatasetError(
                    f"{path}: a date of {row[self.dates['column']]} cannot be read ({error})."
                ) from error
        return found

    def _dated(self, id: str) -> tuple[dt.date, ...] | None:
        match = re.search(self.dates["pattern"], id) if "pattern" in self.dates else None
        return (dt.datetime.strptime("".join(match.groups()), "%Y%j").date(),) if match else None


def _same(text: str, value: str) -> bool:
    try:
        return float(text) == float(value)
    except ValueError:
        return text.strip() == value


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in columns if name not in (reader.fieldnames or [])]
        if missing:
            raise DatasetError(f"{path} has no column {missing[0]}; it has {', '.join(reader.fieldnames or [])}.")
        return list(reader)


def folder_layout(
    image: str,
    label: str | None = None,
    *,
    bands: Sequence[str],
    sensor: str,
    frames: int = 1,
    order: str | None = None,
    gain: float | None = None,
    nodata: Sequence[float] = (),
    classes: Sequence[LabelClass] = (),
    ignore: Sequence[int] = (),
    split: str = "train",
    name: str = "folder",
) -> DatasetLayout:
    """Any folder of GeoTIFFs and masks as a dataset; nothing about it is guessed.

    Args:
        image: path of an image under the folder, `{id}` standing for the chip's name: `images/{id}.tif`.
        label: path of its mask; None for images without.
        bands: common names of the bands of one date, in the order of the file.
        sensor: key of `prithvi.catalog.SENSORS`: says level and scale.
        frames: dates in a file.
        order: `time-major` or `band-major`, if there are several dates.
        gain: reflectance = value x gain, where it is not the sensor's.
        nodata: values of pixels without data beside those the files declare.
        classes: what the values of a mask mean.
        ignore: values of a mask that say nothing.
        split: the part that all chips belong to.
        name: how to call it.

    Raises:
        DatasetError: several dates without an order, masks without classes, or a pattern without `{id}`.
        BandError: a band that is none.

    """
    if frames > 1 and order not in ("time-major", "band-major"):
        raise DatasetError(
            f"files of {frames} dates of {len(bands)} bands: say order= time-major (all bands of the first date "
            "first) or band-major. Neither is guessed."
        )
    if label is not None and not classes:
        raise DatasetError("masks were given and no classes: say what their values mean.")
    for pattern in (image, label):
        if pattern is not None and pattern.count("{id}") != 1:
            raise DatasetError(f"{pattern!r} does not say where the chip's name stands: write images/{{id}}.tif.")
    product = sensor_named(sensor)
    names = check_names(bands)
    contract = Contract(
        names, (0.0,) * len(names), (1.0,) * len(names), resolution=product.resolution, level=product.level
    )
    return DatasetLayout(
        name, image, label, sensor, tuple(classes), tuple(ignore), contract, {split: Split()}, names, frames, order,
        product.gain if gain is None else gain, tuple(nodata),
    )  # fmt: skip


def dataset_names() -> list[str]:
    """The datasets in the catalog that have a layout."""
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
            LabelClass(entry["value"], entry["name"], entry["color_hint"])
            for entry in classes
            if not entry.get("nodata")
        ),
        ignore=tuple(entry["value"] for entry in classes if entry.get("nodata")),
        contract=Contract.from_dict(layout["contract"]),
        splits=_splits(plain, data_catalog() / name),
        bands=tuple(bands),
        frames=layout.get("frames", 1),
        order=layout.get("order"),
        gain=layout.get("gain", product.gain),
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
