"""Which dates of a series are seen together to fill one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prithvi.errors import ConfigError

AT_ONCE = 4
"""Dates that are filled in one pass over a scene."""
REACH = 8
"""Dates before and after among which a date's neighbours are looked for."""
ENOUGH = 0.05
"""Share of a window that a date knows to be of use to another."""


@dataclass(frozen=True)
class Turn:
    """Some dates that are filled in one pass."""

    held: tuple[int, ...]
    """Places in the series of all dates that are read, in the order of time."""
    wanted: tuple[int, ...]
    """Places in `held` of those that are filled."""


def turns(order: Sequence[int], together: int | None) -> list[Turn]:
    """The passes that fill every date of a series once.

    Args:
        order: places in the series in the order of time.
        together: how many are seen together; None for all.

    Raises:
        ConfigError: fewer than two together.

    """
    number = len(order)
    if together is not None and together < 2:
        raise ConfigError(f"{together} dates together: a gap is filled from at least one other.")
    if together is None:
        return [Turn(tuple(order), tuple(range(number)))]
    found = []
    for first in range(0, number, AT_ONCE):
        last, reach = min(first + AT_ONCE, number), max(REACH, together)
        begin, end = max(0, first - reach), min(number, last + reach)
        found.append(Turn(tuple(order[begin:end]), tuple(range(first - begin, last - begin))))
    return found


def neighbours(known: npt.NDArray[np.bool_], date: int, together: int | None) -> list[int]:
    """The dates that one is filled with in a window, itself among them: those next to it that know enough there.

    Where too few do, those next to it come in that know little or nothing, so that they are always as many.

    Args:
        known: (T, y, x) what each date knows in the window, in the order of time.
        date: the one.
        together: how many; None for all.

    """
    number = len(known)
    if together is None or together >= number:
        return list(range(number))
    shares = known.mean(axis=(1, 2))
    others = [other for other in range(number) if other != date]
    useful = [other for other in others if shares[other] >= ENOUGH] or [other for other in others if shares[other] > 0]
    line = sorted([*useful, date])
    start = min(max(line.index(date) - together // 2, 0), max(len(line) - together, 0))
    chosen = line[start : start + together]
    rest = sorted((other for other in others if other not in chosen), key=lambda other: abs(other - date))
    return sorted(chosen + rest[: together - len(chosen)])
