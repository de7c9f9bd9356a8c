"""Matching of the entries of a reference column to the classes of a map, by name or number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prithvi.errors import DatasetError, nearest

KINDS = ("name", "number", "label")
"""Kinds of entries: class names, class numbers in the map, or label values if the labels number classes differently."""


def matched(
    entries: Sequence[Any],
    names: Iterable[str],
    numbers: Mapping[int, str],
    labels: Mapping[int, str],
    kind: str | None = None,
    source: str = "the points",
) -> tuple[list[str], str]:
    """The class name of each entry, and how the column was interpreted, in words.

    If some kind fits the whole column, only such kinds are considered; otherwise each entry is matched by itself. An
    entry that means different classes by different kinds is an error.

    Args:
        entries: non-empty entries of the column; numbers may be written as 1.0.
        names: class names of the map.
        numbers: class number in the map to class name.
        labels: label value to class name, if the labels number classes differently from the map.
        kind: one of `KINDS`; None to infer it.
        source: name of the points in error messages.

    Raises:
        DatasetError: an entry is not a class of the map, or is ambiguous.

    """
    if kind is not None and kind not in KINDS:
        raise DatasetError(f"a reference column holds one of {', '.join(KINDS)}; found --match {kind}.")
    tables: dict[str, Mapping[str, str]] = {
        "name": {name: name for name in names},
        "number": {str(number): name for number, name in numbers.items()},
        "label": {str(value): name for value, name in labels.items()},
    }
    tables = {way: table for way, table in tables.items() if kind in (None, way)}
    # Tables are tried in the order name, number, label. `fitting` are those that have all entries; if there are any,
    # the others are not considered. Each distinct entry is then looked up in all remaining tables, which must agree.
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
    """An entry as text, with integers that a table stores as floats (1.0) written as integers."""
    text = str(entry).strip()
    whole = text.removesuffix(".0")
    return whole if whole.lstrip("-").isdecimal() else text
