"""`prithvi fill`: a series with cloud gaps to one without."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from prithvi.cli.options import Device, Report, Stride, source_of, typed, with_opening, words_of


@with_opening
def fill_verb(
    sources: Annotated[
        list[str], typer.Argument(help="MODEL SERIES...: a model, then a file or granule for each date.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.")],
    method: Annotated[
        str | None, typer.Option(help="Instead of a model: nearest, linear, regression, filling or local_regression.")
    ] = None,
    clouds: Annotated[
        list[str] | None,
        typer.Option(help="Cloud mask of each date, in the order of the dates; none for a date without one."),
    ] = None,
    clouds_are: Annotated[
        str | None,
        typer.Option(
            help="What the masks are, where their names do not say it: fmask, scl, qa_pixel, pixel_qa, cfmask, "
            "dswx_cloud, cloud (your own, 0 is clear) or clear (your own, 1 is clear)."
        ),
    ] = None,
    together: Annotated[
        int | None,
        typer.Option(
            help="Dates seen together to fill one; what the model was made for, 5 of local_regression, or 3.", min=2
        ),
    ] = None,
    window: Annotated[int | None, typer.Option(help="Side of the squares that are filled, in pixels.", min=8)] = None,
    stride: Stride = None,
    uncertainty: Annotated[
        bool, typer.Option(help="Write DATE_uncertainty.tif; it takes two more runs of every window with gaps.")
    ] = True,
    resume: Annotated[bool, typer.Option(help="Continue from the rows that an interrupted run has finished.")] = False,
    bands: Annotated[str | None, typer.Option(help="Names of all bands of a file, in order.")] = None,
    *,
    opening: dict[str, Any],
    device: Device = None,
    report: Report = None,
) -> None:
    """Fills the holes and clouds of every date from the other dates.

    Writes DATE.tif (reflectance x 10,000), DATE_filled.tif (0 observed, 1 filled, 255 nothing) and DATE_uncertainty.tif
    (the standard error like DATE.tif, 0 where observed) for each.
    """
    from prithvi.cli.progress import bar, keep_windows
    from prithvi.errors import SceneError
    from prithvi.mapping.fillers import as_fill
    from prithvi.mapping.gap_filling import fill_series
    from prithvi.mapping.masks import clear_of_sources, masks_beside
    from prithvi.mapping.methods import Method
    from prithvi.scenes import open_scene

    series = sources if method is not None else sources[1:]
    if not series:
        raise SceneError("no series was given: prithvi fill MODEL SERIES... -o DIR, or --method linear SERIES...")
    opening["bands"] = words_of(bands) or None
    opened = open_scene(source_of(series), **opening)
    masks = [None if mask == "none" else mask for mask in clouds or ()] or masks_beside(series, opened.sizes["time"])
    clear = clear_of_sources(series, opened, masks, clouds_are, opening)
    told = ["No cloud mask: all that has data counts as clear."] if clear is None else clear.attrs["masks"]
    typer.echo("\n".join(told), err=True)
    keep_windows()
    how = Method(method) if method is not None else as_fill(sources[0], device)
    with bar(f"{opened.sizes['time']} dates of {opened.sizes['y']} x {opened.sizes['x']}") as progress:
        result = fill_series(
            opened, output, how, clear=clear, together=together, window=window, stride=stride, uncertainty=uncertainty,
            resume=resume, inputs=[*series, *(mask for mask in masks if mask is not None)], command=typed(),
            progress=progress,
        )  # fmt: skip
    total = max(1, result.observed + result.filled + result.empty)
    typer.echo(
        f"{output}: {len(result.paths)} dates; {result.observed / total:.1%} observed, "
        f"{result.filled / total:.1%} filled, {result.empty / total:.1%} left empty"
    )
    for note in result.notes:
        typer.echo(f"Note: {note}", err=True)
    if report is not None:
        from prithvi.report import view

        view(output, report)
        typer.echo(f"To look at: {report}", err=True)
