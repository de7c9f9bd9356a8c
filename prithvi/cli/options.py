"""Options that several verbs have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Bands = Annotated[
    str | None,
    typer.Option("--bands", help="Numbers of the model's bands in the file, from 1; or the names of all its bands."),
]
Sensor = Annotated[str | None, typer.Option("--sensor", help="Product, such as hls-l30 or sentinel-2-l1c.")]
Scale = Annotated[float | None, typer.Option("--scale", help="Value = reflectance x scale.")]
Offset = Annotated[float | None, typer.Option("--offset", help="Added to every value before it is scaled.")]
Nodata = Annotated[float | None, typer.Option("--nodata", help="Value of pixels without data.")]
Accept = Annotated[list[str] | None, typer.Option("--accept", help="nir_broad: use it where nir_narrow is missing.")]
Dates = Annotated[
    list[str] | None, typer.Option("--date", help="Date of the scene (2022-05-31 or 20220531), one for each time step.")
]
Order = Annotated[str | None, typer.Option("--order", help="Of a file with several dates: time-major or band-major.")]
Stride = Annotated[
    int | None, typer.Option("--stride", help="Pixels between windows; half a window by default.", min=1)
]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Windows predicted at once.", min=1)]
Report = Annotated[Path | None, typer.Option("--report", help="Write a page to look at, too: report.html.")]
Device = Annotated[str | None, typer.Option("--device", help="Torch device; a GPU where there is one.")]
