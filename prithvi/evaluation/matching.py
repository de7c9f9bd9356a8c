"""Which class of a map each entry of a reference column means: its name, or its number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prithvi.errors import DatasetError, nearest

KINDS = ("name", "number", "label")
"""What entries can be: class names, numbers in the map, or the values of the labels where the map has other numbers."""


def matched(
    entries: Sequence[Any],
    names: Iterable[str],
    numbers: Mapping[int, str],
    labels: Mapping[int, str],
    kind: str | None = None,
    source: str = "the points",
) -> tuple[list[str], str]:
    """The class name that each entry means, and how the column was read, in words.

    Where one way of reading fits the whole column, that is how it is read; else entry by entry. If an entry can be read
    in two ways that mean different classes, somebody has to say which.

    Args:
        entries: of the column, none of them empty; numbers may be written as 1.0.
        names: of the map's classes.
        numbers: class number in the map to name.
        labels: the label's value to name, where the map has other numbers than the labels.
        kind: one of `KINDS`; None finds out.
        source: what the messages call the points.

    Raises:
        DatasetError: an entry is no class of the map, or the column can be read in two ways.

    """
    if kind is not None and kind not in KINDS:
        raise DatasetError(f"a reference column holds one of {', '.join(KINDS)}; found --match {kind}.")
    tables: dict[str, Mapping[str, str]] = {
        "name": {name: name for name in names},
        "number": {str(number): name for number, name in numbers.items()},
        "label": {str(value): name for value, name in labels.items()},
    }
    tables = {way: table for way, table in tables.items() if kind in (None, way)}
    texts = [_text(entry) for entry in entries]
    different = list(dict.fromkeys(texts))
    fitting = {way: table for way, table in tables.items() if all(text in table for text in different)}
    meant: dict[str, str] = {}
    read: list[str] = []
    for text in different:
        ways = {way: table[text] for way, table in (fitting or tables).items() if text in table}
        if not ways:
            known = sorted({name for table in tables.values() for name in table})
            raise DatasetError(
                f"{source} have a {kind or 'class'} {text!r} that the map does not have: {nearest(text, known)}"
            )
        way, meant[text] = next(iter(ways.items()))
        for other, name in ways.items():
            if name != meant[text]:
                raise DatasetError(
                    f"{source} hold {text}, which is the {_WORDS[way]} of the class {meant[text]!r} and the "
                    f"{_WORDS[other]} of the class {name!r}: say which is meant (--match {way} or --match {other})."
                )
        read += [] if way in read else [way]
    told = "by " + " and ".join(_WORDS[way] for way in read) if read else ""
    table = ", ".join(f"{text} is {name}" for text, name in meant.items() if text != name)
    return [meant[text] for text in texts], f"{told} ({table})" if table else told


_WORDS = {"name": "name", "number": "number in the map", "label": "value in the labels"}


def _text(entry: Any) -> str:
    """An entry as text; a whole number that a table keeps as a float has no point."""
    text = str(entry).strip()
    whole = text.removesuffix(".0")
    return whole if whole.lstrip("-").isdecimal() else text
