"""`prithvi composite`: the best observation of each pixel, by period."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from prithvi.cli.options import BandsOfFile, Clouds, CloudsAre, band_numbers, series_with_masks, typed, with_opening
from prithvi.errors import counted


@with_opening
def composite_verb(
    sources: Annotated[list[str], typer.Argument(help="A file or granule for each date.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.")],
    every: Annotated[str | None, typer.Option(help="Length of a period: 16d. By default all dates are one.")] = None,
    start: Annotated[str | None, typer.Option(help="First day of a period; that of the series by default.")] = None,
    target_day: Annotated[
        str | None, typer.Option(help="Day that observations are to be near to, instead of the middle of the period.")
    ] = None,
    clouds: Clouds = None,
    clouds_are: CloudsAre = None,
    resume: Annotated[bool, typer.Option(help="Keep the periods that an interrupted run has finished.")] = False,
    bands: BandsOfFile = None,
    *,
    opening: dict[str, Any],
) -> None:
    """Takes the best observation of each pixel in every period, by the cloud masks: nothing is filled or averaged.

    Writes FIRST_LAST.tif (first and last day of the period; reflectance x 10,000) and FIRST_LAST_date.tif (year and day
    of the year of each pixel's observation, such as 2022145; 0 for none).
    """
    from prithvi.cli.progress import bar
    from prithvi.mapping.composites import composite_series
    from prithvi.mapping.masks import ranks_of

    opening["bands"] = band_numbers(bands)
    opened, ranks, files = series_with_masks(sources, opening, clouds, clouds_are, ranks_of, output, resume)
    with bar(f"{counted(opened.sizes['time'], 'date')} of {opened.sizes['y']} x {opened.sizes['x']}") as progress:
        result = composite_series(
            opened, output, ranks=ranks, every=every, start=start, target_day=target_day, resume=resume, inputs=files,
            command=typed(), progress=progress,
        )  # fmt: skip
    total = max(1, result.observed + result.empty)
    number = len(result.paths)
    typer.echo(
        f"{output}: {number} composite{'s' * (number > 1)}; {result.observed / total:.1%} observed, "
        f"{result.empty / total:.1%} left empty"
    )
    for note in result.notes[opened.sizes["time"] if ranks is not None else 0 :]:  # masks were told at the beginning
        typer.echo(f"Note: {note}", err=True)
