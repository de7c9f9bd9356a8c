"""What is timed. A module here prepares one way of doing one thing at one size, and gives the function that is timed:

    make(size, folder)          files that all ways use; once a size, in a process of its own
    prepare(way, size, folder)  all that is not timed (imports, models, a first batch); the function to time
    check(size, folder)         how well the ways agree, from what they left in the folder; once, at the end

`make` and `check` may be missing. The function may return figures by name: `seconds`, `cpu` and `MB` in place of the
clock's own, anything else is kept beside them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib import metadata

Work = Callable[[], dict[str, float] | None]


class MissingError(Exception):
    """A way that can't be measured here, and what to install: a skip, not a failure."""


def need(package: str, least: tuple[int, ...] = (), module: str | None = None) -> None:
    """That a package is there, in a version.

    Raises:
        MissingError: it isn't.

    """
    wanted = f"{package} {'.'.join(map(str, least))} or later" if least else package
    if importlib.util.find_spec(module or package) is None:
        raise MissingError(f"{wanted} is not installed")
    found = metadata.version(package)
    if tuple(int(part) for part in found.split(".")[: len(least)] if part.isdigit()) < least:
        raise MissingError(f"{wanted} is needed, and {found} is installed")
