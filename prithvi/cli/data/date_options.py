"""Options about dates that `prithvi data choose` and `prithvi data build` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from prithvi.chips import DateRule

Frames = Annotated[int, typer.Option(help="Dates in a chip.", min=1)]
MinGap = Annotated[int, typer.Option(help="Least days between two dates.")]
MaxGap = Annotated[int, typer.Option(help="Most days between two dates, relaxed where too few.")]
MaxCloud = Annotated[float, typer.Option(help="Clouds of a granule in per cent, relaxed where too few.")]
Sequences = Annotated[int, typer.Option(help="Sequences of dates of a tile below which the rule is relaxed.")]


def date_rule(
    frames: int, min_gap: int, max_gap: int, max_cloud: float, sequences: int, max_missing: float = 5.0
) -> DateRule:
    """The rule that these say; clouds and missing pixels in per cent of a granule."""
    from prithvi.chips import DateRule

    shares = max_cloud / 100, max_missing / 100
    return DateRule(frames, min_gap, max_gap, *shares, wanted=sequences, longest=max(16, frames))
