"""The parts of a dataset: each is a shipped list, rows of a table in the archive, or what lies in a folder of it."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prithvi.errors import DatasetError
from prithvi.files import read_rows, read_text


@dataclass(frozen=True)
class Split:
    """Where the chips of one part are listed. Without a list and a table they are the existing files."""

    list: Path | None = None
    """The official list of chip ids, shipped with the catalog."""
    folder: str = ""
    """Replaces `{split}` in the paths of its files."""
    table: str = ""
    """CSV file under the root that lists chips."""
    column: str = ""
    """Column of the table with the ids."""
    where: tuple[tuple[str, str, str], ...] = ()
    """(column, `==` or `<`, value): which rows of the table belong to the part."""


def listed_ids(path: Path, suffixes: Sequence[str]) -> list[str]:
    """Ids in a list of one chip a line, in its order; of several names in a line the first counts.

    Args:
        path: the list.
        suffixes: ends of file names, taken off where a line has one.

    Raises:
        DatasetError: it cannot be read as text.

    """
    names = [line.split(",")[0].strip() for line in read_text(path, DatasetError).splitlines()]
    for suffix in suffixes:
        names = [name.removesuffix(suffix) for name in names]
    return [name for name in names if name]


def tabled_ids(path: Path, split: Split) -> list[str]:
    """Ids of the rows of a table that belong to a part, sorted.

    Raises:
        DatasetError: no such column, or no number where one is compared.

    """
    rows = read_table(path, [split.column, *(column for column, _, _ in split.where)])
    return sorted(
        row[split.column]
        for row in rows
        if all(_fits(row[name], sign, value, path) for name, sign, value in split.where)
    )


def found_ids(root: Path, image: str, label: str | None) -> list[str]:
    """Ids of the existing image files, sorted.

    Args:
        root: folder of the dataset.
        image: path of an image under it, `{id}` in one of its parts.
        label: the same of a label; in one folder `{id}.tif` also fits `a_mask.tif`, which is no image then.

    """
    parts = image.split("/")
    place = next(index for index, part in enumerate(parts) if "{id}" in part)
    inside, (stem, tail) = root.joinpath(*parts[:place]), parts[place].split("{id}")
    found = {}
    for name in sorted(path.name for path in inside.iterdir()) if inside.is_dir() else ():
        # A dot begins what macOS packs beside each file (._chip_1.tif), which is no raster.
        if name.startswith(stem) and name.endswith(tail) and not name.startswith("."):
            id = name[len(stem) : len(name) - len(tail)]
            path = inside.joinpath(name, *parts[place + 1 :])
            if id and path.is_file():
                found[id] = path
    labels = {root / label.replace("{id}", id) for id in found} if label is not None else set()
    return [id for id, path in found.items() if path not in labels]


def matching(root: Path, pattern: str, id: str) -> list[Path]:
    """The files that a chip's name fits: one, unless a `*` in the pattern leaves more open; none if it is missing."""
    if "*" not in pattern:
        path = root / pattern.replace("{id}", id)
        return [path] if path.is_file() else []
    return sorted(path for path in root.glob(pattern.replace("{id}", glob.escape(id))) if path.is_file())


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV file, values stripped.

    Raises:
        DatasetError: a missing column, or a file that is no CSV.

    """
    found, rows = read_rows(path, DatasetError)
    missing = [name for name in columns if name not in found]
    if missing:
        raise DatasetError(f"{path} has no column {missing[0]}; it has {', '.join(found)}.")
    return [{name: row[name].strip() for name in columns} for row in rows]


def _fits(text: str, sign: str, value: str, path: Path) -> bool:
    """Whether a cell is below `value`, or equal to it (as numbers where both are)."""
    try:
        return float(text) < float(value) if sign == "<" else float(text) == float(value)
    except ValueError:
        if sign == "<":
            raise DatasetError(f"{path} holds {text!r} where a number below {value} marks a chip as usable.") from None
        return text == value
