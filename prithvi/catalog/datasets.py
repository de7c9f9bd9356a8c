"""Datasets of chips: where their files lie, what their pixels and labels mean, and their parts."""

from __future__ import annotations

import datetime as dt
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from prithvi.catalog.chip_lists import Split, found_ids, listed_ids, matching, read_table, tabled_ids
from prithvi.contract import IGNORE, Category, Contract, Quantity
from prithvi.errors import DatasetError, nearest

HALVES = ("val_half", "test_half")
"""Fixed halves of val where there is no test split: val_half selects, test_half reports."""
PLUS = "+"
"""Joins parts: `fold2+fold3+fold4` is all their chips."""


LabelClass = Category
"""The older name."""


def check_classes(classes: Sequence[Category], ignore: Sequence[int], where: str) -> None:
    """Whether each class has a value and a name of its own that nothing else claims.

    Raises:
        DatasetError: two classes have one value, or names that differ by case or blanks alone; or a class is ignored.

    """
    claimed: dict[int | str, Category] = {}
    for entry in classes:
        for key in (entry.value, folded(entry.name)):
            if key in claimed:
                raise DatasetError(
                    f"{where} has the classes {claimed[key].value} ({claimed[key].name!r}) and {entry.value} "
                    f"({entry.name!r}): each needs its own value and name, and case and blanks make no other name."
                )
            claimed[key] = entry
        if entry.value in ignore:
            message = f"has the class {entry.value} ({entry.name}) and ignores {entry.value}: say one."
            raise DatasetError(f"{where} {message}")


def in_half(name: str, half: str) -> bool:
    """Whether a chip is in a half of val: by a checksum of its name, so that it stays there whatever else there is."""
    return zlib.crc32(name.encode()) % 2 == HALVES.index(half)


def folded(name: str) -> str:
    """A class name without what does not tell names apart: case, and blanks around and between its words."""
    return " ".join(name.split()).casefold()


@dataclass(frozen=True)
class ChipFiles:
    """The files of one chip."""

    id: str
    image: Path
    label: Path | None
    dates: tuple[dt.date, ...] | None = None
    number: int | None = None
    """Place of the whole chip's class in `DatasetLayout.classes`, where a table says one."""


@dataclass(frozen=True)
class DatasetLayout:
    """One dataset of chips."""

    name: str
    image: str
    """Path of a chip's image under the root, with `{id}` (and `{split}`); `*` matches the rest of a name."""
    label: str | None
    """Path of its label; None for a dataset without labels."""
    sensor: str
    """Key of `prithvi.catalog.SENSORS`."""
    classes: tuple[Category, ...]
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
    """Reflectance = value x gain + bias."""
    bias: float = 0.0
    user_scale_offset: tuple[float | None, float | None] | None = None
    """Of a folder of one's own: the scale and the offset that the user gives, before which each file's own tags and the
    sensor's numbers (`gain`, `bias`) step back; None of a published dataset, where gain and bias hold for all files."""
    nodata: tuple[float, ...] = ()
    """Values of pixels without data, beside those that a file declares."""
    dates: dict[str, Any] = field(default_factory=dict)
    """`table`, `column` and `dates`: a CSV file under the root with the dates of each chip. Or `pattern`: a regular
    expression that finds year and day of the year in a chip's id."""
    quantity: Quantity | None = None
    """What the label files hold, where that is a number and not a class."""
    table: tuple[str, str, str] | None = None
    """A CSV file under the root, its column of ids and its column of classes (names or values), where a label belongs
    to the chip as a whole."""

    def chip_ids(self, split: str, folder: Path | None = None, root: Path | None = None) -> list[str]:
        """The ids of one split, whole names, in the order of the list.

        Args:
            split: a key of `splits`; or, for a dataset without a test split, one of `HALVES`; or several, joined by
                `PLUS`.
            folder: a folder with lists of the same file names, to use instead of the official ones.
            root: where the archive was unpacked, for datasets that list their chips there.

        Raises:
            DatasetError: no such split, no such list, or an empty one.

        """
        if PLUS in split and split not in self.splits:
            return [id for part in split.split(PLUS) for id in self.chip_ids(part, folder, root)]
        if split in HALVES and "test" not in self.splits and "val" in self.splits:
            return [id for id in self.chip_ids("val", folder, root) if in_half(id, split)]
        if split not in self.splits:
            message = f"{self.name} has no split {split!r}: {nearest(split, self.splits)}"
            if split == "test":
                message += " Published results are those of val: val_half and test_half are fixed halves of val."
            raise DatasetError(message)
        source = self.splits[split]
        if source.list is not None:
            path = source.list if folder is None else folder / source.list.name
            # The archives also list both file names of a chip in a line: Ghana_1_S1Hand.tif,Ghana_1_LabelHand.tif.
            suffixes = [pattern.split("{id}")[1] for pattern in (self.image, self.label) if pattern is not None]
            ids = listed_ids(_there(path, f"list of the {split} split"), [*suffixes, "_S1Hand.tif"])
        elif folder is not None:
            message = f"the lists in {folder} would not be read: leave them out."
            raise DatasetError(f"{self.name} has the parts that its own archive says, and {message}")
        elif root is None:
            raise DatasetError(f"{self.name} lists the chips of its {split} split in its own archive: give its folder.")
        elif source.table:
            path = root / source.table
            ids = tabled_ids(_there(path, f"table of the {split} split"), source)
        else:
            image, label = self._patterns(split)
            path = root / image.replace("{id}", "*")
            ids = found_ids(root, image, label)
        if not ids:
            raise DatasetError(f"the list of the {split} split is empty: {self.name} has no chip by {path}.")
        return ids

    def chips(self, root: Path, split: str, folder: Path | None = None) -> list[ChipFiles]:
        """The files of a split, which all exist.

        Args:
            root: folder that the archive was unpacked into.
            split: as for `chip_ids`.
            folder: see `chip_ids`.

        Raises:
            DatasetError: as `chip_ids`; a name that occurs twice in a list or fits two files; missing files, which are
                all named (or that all are missing).

        """
        ids = self.chip_ids(split, folder, root)
        twice = [id for id, count in Counter(ids).items() if count > 1]
        if twice:
            raise DatasetError(f"the {split} split of {self.name} names {', '.join(twice)} more than once.")
        if PLUS in split and split not in self.splits:  # each part has its own folder
            return [chip for part in split.split(PLUS) for chip in self.chips(root, part, folder)]
        dates, numbers = self._dates(root), self._class_of_each_chip(root)
        image, label = self._patterns(split)
        patterns = [pattern for pattern in (image, label) if pattern is not None]
        found = {(id, pattern): matching(root, pattern, id) for id in ids for pattern in patterns}
        several = next((paths for paths in found.values() if len(paths) > 1), None)
        if several:
            names = ", ".join(str(path.relative_to(root)) for path in several)
            raise DatasetError(f"one name of the {split} split of {self.name} fits {names}: its list must say more.")
        missing = [pattern.replace("{id}", id) for (id, pattern), paths in found.items() if not paths]
        if missing:
            named = ", ".join(missing) if len(missing) < len(found) else f"{missing[0]} and so on"
            message = f"{len(missing)} of the {len(found)} files of the {split} split of {self.name}"
            where = root if root.is_dir() else f"{root}, which is no folder"
            raise DatasetError(f"{message} are not under {where}: {named}.")
        unnamed = [id for id in ids if id not in numbers]
        if self.table is not None and unnamed:
            raise DatasetError(f"{root / self.table[0]} says no class of {', '.join(unnamed)}.")
        return [
            ChipFiles(
                id, found[id, image][0], found[id, label][0] if label is not None else None,
                dates.get(id) or self._dated(id), numbers.get(id),
            )
            for id in ids
        ]  # fmt: skip

    def class_numbers(self, stored: npt.NDArray[Any], nodata: float | None, where: Path | str) -> npt.NDArray[np.int64]:
        """A label raster's values as the places of their classes in `classes`, 0, 1, 2, ...; what says nothing (nodata,
        NaN, an ignored value) is `IGNORE`.

        Raises:
            DatasetError: a value that is neither a class nor known to say nothing; or a class that the file calls
                nodata.

        """
        silent = ~np.isfinite(stored) | np.isin(stored, self.ignore)
        if nodata is not None:
            claimed = next((entry for entry in self.classes if entry.value == nodata), None)
            if claimed is not None and (stored == nodata).any():
                raise DatasetError(
                    f"{where} says that {claimed.value} is nodata, and {self.name} says that it is the class "
                    f"{claimed.name}: take the tag away (rio edit-info --unset-nodata {where}), or leave the class out."
                )
            silent |= stored == nodata
        classes = np.full(stored.shape, IGNORE, dtype=np.int64)
        known = silent.copy()
        for number, entry in enumerate(self.classes):
            here = (stored == entry.value) & ~silent
            classes[here] = number
            known |= here
        if not known.all():
            strange = ", ".join(f"{value:g}" for value in np.unique(stored[~known])[:5])
            ignored = ", ".join(map(str, self.ignore)) or "none"
            message = f"{self.name} has {self._classes()} and ignores {ignored}: make it a class, or ignore it."
            raise DatasetError(f"{where} holds the label {strange}; {message}")
        return classes

    def _classes(self) -> str:
        return ", ".join(f"{entry.value} ({entry.name})" for entry in self.classes)

    def file_band(self, time: int, band: str) -> int:
        """Number in a file, counted from 1, of a band on one of its dates (counted from 0)."""
        place = self.bands.index(band)
        if self.order == "band-major":
            return 1 + place * self.frames + time
        return 1 + time * len(self.bands) + place

    def _patterns(self, split: str) -> tuple[str, str | None]:
        """Paths of image and label in one part, `{id}` left in them."""
        part = self.splits["val" if split in HALVES and split not in self.splits else split].folder
        label = self.label.replace("{split}", part) if self.label is not None else None
        return self.image.replace("{split}", part), label

    def _dates(self, root: Path) -> dict[str, tuple[dt.date, ...]]:
        """Dates of every chip that the dataset's own table names; empty where there is no table."""
        path = root / self.dates.get("table", "")
        if "table" not in self.dates or not path.is_file():
            return {}
        columns: list[str] = self.dates["dates"]
        found = {}
        for row in read_table(path, [self.dates["column"], *columns]):
            id = row[self.dates["column"]]
            try:
                found[id] = tuple(dt.date.fromisoformat(row[name][:10].replace("/", "-")) for name in columns)
            except ValueError as error:
                raise DatasetError(f"{path}: a date of {id} cannot be read ({error}).") from error
        return found

    def _class_of_each_chip(self, root: Path) -> dict[str, int]:
        """Place in `classes` of every chip's class, by its table; empty where there is no such table."""
        if self.table is None:
            return {}
        file, id_column, class_column = self.table
        path = _there(root / file, "table of classes")
        known: dict[str, int] = {}
        for number, entry in enumerate(self.classes):
            for text in (entry.name, str(entry.value)):
                if known.setdefault(text, number) != number:
                    raise DatasetError(f"{text} names one class of {self.name} and is the value of another: rename it.")
        silent, found = {str(value) for value in self.ignore} | {""}, {}
        for row in read_table(path, [id_column, class_column]):
            text = row[class_column].strip()
            if text not in known and text not in silent:
                message = f"{self.name} has {self._classes()}."
                raise DatasetError(f"{path} has the class {text!r} for {row[id_column]}; {message}")
            found[row[id_column]] = known.get(text, IGNORE)
        return found

    def _dated(self, id: str) -> tuple[dt.date, ...] | None:
        match = re.search(self.dates["pattern"], id) if "pattern" in self.dates else None
        return (dt.datetime.strptime("".join(match.groups()), "%Y%j").date(),) if match else None


def _there(path: Path, what: str) -> Path:
    if not path.is_file():
        raise DatasetError(f"the {what} is not there: {path}.")
    return path
