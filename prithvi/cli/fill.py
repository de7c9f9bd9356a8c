"""`prithvi fill`: a series with cloud gaps to one without."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from prithvi.cli.options import (
    BandsOfFile,
    Clouds,
    CloudsAre,
    Device,
    Json,
    Report,
    ZarrFormat,
    band_numbers,
    series_with_masks,
    typed,
    with_opening,
    words_of,
)  # fmt: skip


@with_opening
def fill_verb(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="[MODEL] SERIES...: a file or granule for each date, a model before them if one is to fill."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write into; NAME.zarr writes one Zarr cube.")
    ],
    method: Annotated[
        str | None,
        typer.Option(
            help="Instead of a model: nearest, linear, regression, filling or local_regression, which auto and the "
            "default are."
        ),
    ] = None,
    clouds: Clouds = None,
    clouds_are: CloudsAre = None,
    only: Annotated[
        str | None, typer.Option(help="Fill and write these dates alone, from all: 2022-06-01,2022-06-17.")
    ] = None,
    on: Annotated[
        str | None, typer.Option(help="Write these days; those on which nothing was observed are filled whole.")
    ] = None,
    every: Annotated[str | None, typer.Option(help="Write a day every so many days, likewise: 16d.")] = None,
    start: Annotated[str | None, typer.Option(help="The first of these days; that of the series by default.")] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Of two sensors the one whose date is written of a day of both: hls-s30, or S30."),
    ] = None,
    together: Annotated[
        int | None,
        typer.Option(
            help="Dates seen together to fill one; 5 by default, of a model what it was made for, of others 3.", min=2
        ),
    ] = None,
    window: Annotated[int | None, typer.Option(help="Side of the squares that are filled, in pixels.", min=8)] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            help="Pixels between windows; half a window by default, of local_regression three quarters.", min=1
        ),
    ] = None,
    uncertainty: Annotated[
        bool, typer.Option(help="Write DATE_uncertainty.tif; without, filling takes two thirds of the time or less.")
    ] = True,
    zarr_format: ZarrFormat = 2,
    resume: Annotated[bool, typer.Option(help="Continue from the rows that an interrupted run has finished.")] = False,
    bands: BandsOfFile = None,
    *,
    opening: dict[str, Any],
    device: Device = None,
    report: Report = None,
    as_json: Json = False,
) -> None:
    """Fills the holes and clouds of every date from the other dates.

    Writes DATE.tif (reflectance x 10,000), DATE_filled.tif (0 observed, 1 filled, 255 nothing) and DATE_uncertainty.tif
    (the standard error like DATE.tif, 0 where observed) for each, of L30 and S30 together also DATE_source.tif (which
    of them saw a pixel); or all dates into one Zarr store (-o NAME.zarr).
    """
    from prithvi.cli.progress import bar, keep_windows
    from prithvi.errors import ConfigError, SceneError, counted
    from prithvi.files import dumps
    from prithvi.mapping.masks import clear_of
    from prithvi.mapping.methods import AUTO, Method
    from prithvi.mapping.series_files import fill_series
    from prithvi.modelio.loader import names_model

    with_model = method is None and names_model(sources[0])
    series = sources[1:] if with_model else sources
    if not series:
        raise SceneError("no series was given: prithvi fill SERIES... -o DIR, or with a model: MODEL SERIES...")
    if report is not None and output.suffix == ".zarr":
        raise ConfigError("--report shows folders of files, and a .zarr is none: leave one of the two out.")
    opening["bands"] = band_numbers(bands)
    opened, clear, files = series_with_masks(series, opening, clouds, clouds_are, clear_of, output, resume)
    keep_windows()
    how = sources[0] if with_model else Method(method or AUTO)  # a model is opened once the dates are known to fit
    if method is None and not with_model:
        typer.echo(f"Filling by {AUTO}; a model before the series, or --method, is another way.", err=True)
    with bar(f"{counted(opened.sizes['time'], 'date')} of {opened.sizes['y']} x {opened.sizes['x']}") as progress:
        result = fill_series(
            opened, output, how, clear=clear, only=words_of(only) or None, on=words_of(on) or None, every=every,
            start=start, target=target, together=together, window=window, stride=stride, uncertainty=uncertainty,
            resume=resume, device=device, inputs=files, zarr_format=zarr_format, command=typed(), progress=progress,
        )  # fmt: skip
    total = max(1, result.observed + result.filled + result.empty)
    if as_json:
        counts = {"observed": result.observed, "filled": result.filled, "empty": result.empty}
        files = [str(path) for path in result.paths]
        typer.echo(dumps({"files": files, "dates": result.dates, **counts, "notes": result.notes}, indent=2))
    else:
        typer.echo(
            f"{output}: {counted(len(result.dates), 'date')}; {result.observed / total:.1%} observed, "
            f"{result.filled / total:.1%} filled, {result.empty / total:.1%} left empty"
        )
    told = [] if clear is None else clear.attrs["masks"]
    for note in (note for note in result.notes if note not in told):
        typer.echo(f"Note: {note}", err=True)
    if report is not None:
        from prithvi.report import view

        view(output, report)
        typer.echo(f"To look at: {report}", err=True)
