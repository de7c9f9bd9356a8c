"""Options about dates that `prithvi data choose` and `prithvi data build` share."""

from __future__ import annotations

from typing import Annotated

import typer

Frames = Annotated[int, typer.Option(help="Dates in a chip.", min=1)]
MinGap = Annotated[int, typer.Option(help="Least days between two dates.")]
MaxGap = Annotated[int, typer.Option(help="Most days between two dates, relaxed where too few.")]
MaxCloud = Annotated[float, typer.Option(help="Clouds of a granule in per cent, relaxed where too few.")]
Sequences = Annotated[int, typer.Option(help="Sequences of dates of a tile below which the rule is relaxed.")]
