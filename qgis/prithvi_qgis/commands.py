"""What is typed: the words of a verb of prithvi from the values of an algorithm's parameters. No QGIS here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Union

Value = Union[str, float, bool, Sequence[str], None]


def words_of(verb: str, arguments: Sequence[str], options: Mapping[str, Value], extra: str = "") -> list[str]:
    """A command without the program.

    Args:
        verb: such as "map".
        arguments: model and sources.
        options: by name without dashes. True is a flag; False, None and an empty text are left out; of a sequence each
            is an option of its own.
        extra: further options as one would type them.

    Raises:
        ValueError: a quote of `extra` is not closed.

    """
    words = [verb, *arguments]
    for name, value in options.items():
        dashed = f"-{name}" if len(name) == 1 else f"--{name}"
        if value is True:
            words.append(dashed)
        elif isinstance(value, (list, tuple)):
            for each in value:
                words += [dashed, str(each)]
        elif value is not None and value is not False and value != "":
            words += [dashed, str(value)]
    return words + shlex.split(extra)


def listed(text: str) -> list[str]:
    """The words of a text, between commas, semicolons or blanks."""
    return re.findall(r"[^\s,;]+", text)


def source_of(provider: str, source: str, decoded: Mapping[str, object]) -> str | None:
    """What prithvi opens of a raster layer, or None where it is no file.

    Args:
        provider: of the layer, such as "gdal".
        source: of the layer.
        decoded: its parts as QGIS tells them.

    """
    if provider != "gdal":
        return None
    if decoded.get("layerName"):  # a part of a file has only GDAL's name of it
        return source
    path = str(decoded.get("path") or source)
    return path[len("/vsicurl/") :] if path.startswith("/vsicurl/") else path


def shown(words: Sequence[str]) -> str:
    """A command as one would type it."""
    return shlex.join(words)


def in_words_of_qgis(sentence: str, titles: Mapping[str, str]) -> str:
    """An error's sentence, followed by where the options that it names are to be found.

    Args:
        sentence: of prithvi.
        titles: parameters by the option that they stand for; the others go into "Further options".

    """
    named = dict.fromkeys(re.findall(r"(?<![\w-])--[a-z][a-z-]*", sentence))
    if not named:
        return sentence
    places = [f"{option} is {titles.get(option, 'one of the further options')}" for option in named]
    return f"{sentence} (Here {', '.join(places)}.)"
