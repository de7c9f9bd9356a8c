"""Colours that are distinguishable with red-green colour blindness."""

from __future__ import annotations

OKABE_ITO = ("E69F00", "56B4E9", "009E73", "F0E442", "0072B2", "D55E00", "CC79A7", "000000")
"""Okabe and Ito (2008), Color Universal Design."""
CONTINUOUS = "cividis"
"""Nuñez, Anderton and Renslow (2018), doi:10.1371/journal.pone.0199239."""
DIFFERENCE = "PuOr"
MARK = ("white", "black")
"""Colours of a line over a picture and of its outline, visible on bright and dark ground."""


def class_colors(count: int) -> list[str]:
    """Default class colours (RRGGBB): eight colours, then lighter shades of the same."""
    return [_lighter(OKABE_ITO[number % 8], number // 8) for number in range(count)]


def _lighter(color: str, times: int) -> str:
    parts = (int(color[place : place + 2], 16) for place in (0, 2, 4))
    return "".join(f"{round(255 - (255 - part) * 0.5**times):02X}" for part in parts)
