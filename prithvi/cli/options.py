"""Options that several verbs have in common, beside those of `prithvi.cli.opening`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Bands = Annotated[
    str | None,
    typer.Option("--bands", help="Numbers of the model's bands in the file, from 1; or the names of all its bands."),
]
Accept = Annotated[list[str] | None, typer.Option("--accept", help="nir_broad: use it where nir_narrow is missing.")]
Stride = Annotated[
    int | None, typer.Option("--stride", help="Pixels between windows; half a window by default.", min=1)
]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Windows predicted at once.", min=1)]
Report = Annotated[Path | None, typer.Option("--report", help="Write a page to look at, too: report.html.")]
Device = Annotated[str | None, typer.Option("--device", help="Torch device; a GPU where there is one.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

# Dates of chips
Frames = Annotated[int, typer.Option(help="Dates in a chip.", min=1)]
MinGap = Annotated[int, typer.Option(help="Least days between two dates.")]
MaxGap = Annotated[int, typer.Option(help="Most days between two dates, relaxed where too few.")]
MaxCloud = Annotated[float, typer.Option(help="Clouds of a granule in per cent, relaxed where too few.")]
Sequences = Annotated[int, typer.Option(help="Sequences of dates of a tile below which the rule is relaxed.")]
