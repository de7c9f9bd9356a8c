"""`prithvi fill`: a series with cloud gaps to one without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prithvi.cli.options import Device, Nodata, Offset, Order, Report, Scale, Sensor, Stride

if TYPE_CHECKING:
    from prithvi.mapping.gaps import Fill, Known, Pixels


def fill_verb(
    sources: Annotated[
        list[str], typer.Argument(help="MODEL SERIES...: a model, then a file or granule for each date.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.")],
    method: Annotated[
        str | None, typer.Option(help="Instead of a model: nearest, linear, regression or filling.")
    ] = None,
    clouds: Annotated[
        list[str] | None,
        typer.Option(help="Cloud mask of each file, in order: 0 is clear; *Fmask.tif goes by its bits."),
    ] = None,
    together: Annotated[
        int | None,
        typer.Option(help="Dates seen together to fill one; what the model was made for, or 3.", min=2),
    ] = None,
    window: Annotated[int | None, typer.Option(help="Side of the squares that are filled, in pixels.", min=8)] = None,
    stride: Stride = None,
    uncertainty: Annotated[
        bool, typer.Option(help="Write DATE_uncertainty.tif; it takes two more runs of every window with gaps.")
    ] = True,
    resume: Annotated[bool, typer.Option(help="Go on from where an interrupted run of the same stopped.")] = False,
    bands: Annotated[str | None, typer.Option(help="Names of all bands of a file, in order.")] = None,
    sensor: Sensor = None,
    scale: Scale = None,
    offset: Offset = None,
    nodata: Nodata = None,
    date: Annotated[list[str] | None, typer.Option(help="Date of each file (2022-05-31), in order.")] = None,
    order: Order = None,
    device: Device = None,
    report: Report = None,
) -> None:
    """Fills the holes and clouds of every date from the other dates.

    Writes DATE.tif (reflectance x 10,000), DATE_filled.tif (0 observed, 1 filled, 255 nothing) and DATE_uncertainty.tif
    (the standard error like DATE.tif, 0 where observed) for each.
    """
    from prithvi.cli.progress import Bar
    from prithvi.cli.words import typed
    from prithvi.errors import SceneError
    from prithvi.mapping.gaps import with_model
    from prithvi.mapping.masks import clear_of
    from prithvi.mapping.series import fill_series
    from prithvi.scenes import open_scene
    from prithvi.scenes.moments import moments

    series = sources if method is not None else sources[1:]
    if not series:
        raise SceneError("no series was given: prithvi fill MODEL SERIES... -o DIR, or --method linear SERIES...")
    said: dict[str, Any] = {
        "bands": [word.strip() for word in bands.split(",")] if bands else None, "sensor": sensor, "scale": scale,
        "offset": offset, "nodata": nodata, "order": order,
    }  # fmt: skip
    opened = open_scene(series[0] if len(series) == 1 else series, dates=date or None, **said)
    masks = clouds or _fmasks(series)
    if masks and len(series) > 1 and len(masks) == len(series):
        # A series lies in the order of its dates, whatever the order of its files.
        days = date or [str(open_scene(entry, **said)["time"].dt.strftime("%Y-%m-%d").values[0]) for entry in series]
        times = moments(series)  # where two granules are of one day
        ranks = sorted(range(len(series)), key=lambda place: (str(days[place]), str(times.get(series[place], ""))))
        masks = [masks[place] for place in ranks]
    clear = clear_of(masks, opened) if masks else None
    if clouds is None and masks:
        typer.echo("What is cloud is taken from each granule's Fmask.", err=True)
    if method is None:
        how: Fill = with_model(sources[0], device)
    else:
        how = Method(method)
        together = together or (opened.sizes["time"] if method in ("nearest", "linear") else None)
    with Bar(f"{opened.sizes['time']} dates of {opened.sizes['y']} x {opened.sizes['x']}") as bar:
        result = fill_series(
            opened, output, how, clear=clear, together=together, window=window, stride=stride, uncertainty=uncertainty,
            resume=resume, inputs=[*series, *(masks or ())], command=typed(), progress=bar,
        )  # fmt: skip
    total = max(1, result.observed + result.filled + result.empty)
    typer.echo(
        f"{output}: {len(result.paths)} dates; {result.observed / total:.1%} observed, "
        f"{result.filled / total:.1%} filled, {result.empty / total:.1%} left empty"
    )
    if report is not None:
        from prithvi.report import view

        view(output, report)
        typer.echo(f"To look at: {report}", err=True)


def _fmasks(series: Sequence[str]) -> list[str]:
    """The Fmask of each granule folder; empty where one has none."""
    found = [sorted(Path(entry).glob("*Fmask.tif")) if Path(entry).is_dir() else [] for entry in series]
    return [str(files[0]) for files in found] if all(len(files) == 1 for files in found) else []


class Method:
    """A method without weights, on reflectance x 10,000; a `prithvi.mapping.gaps.Fill`.

    Args:
        name: of `prithvi.evaluation.gaps.GAP_METHODS`.

    Raises:
        ConfigError: there is no such method.

    """

    def __init__(self, name: str) -> None:
        from prithvi.errors import ConfigError, nearest
        from prithvi.evaluation.gaps import GAP_METHODS

        if name not in GAP_METHODS:
            raise ConfigError(f"there is no method {name!r}: {nearest(name, GAP_METHODS)}")
        self.name, self.method = name, GAP_METHODS[name]

    def __call__(self, image: Pixels, known: Known, times: Pixels, where: tuple[float, float]) -> Pixels:
        from prithvi.evaluation.gaps import days_of

        return (1e4 * self.method(image / 1e4, known, days_of(times))).astype("float32")
