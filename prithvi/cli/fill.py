"""`prithvi fill`: a series with cloud gaps to one without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from prithvi.mapping.gaps import Fill


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
    together: Annotated[int, typer.Option(help="Dates that are seen together to fill one.", min=2)] = 3,
    window: Annotated[int | None, typer.Option(help="Side of the squares that are filled, in pixels.", min=8)] = None,
    stride: Annotated[int | None, typer.Option(help="Pixels between windows; half a window by default.", min=1)] = None,
    bands: Annotated[str | None, typer.Option(help="Names of all bands of a file, in order.")] = None,
    sensor: Annotated[str | None, typer.Option(help="Product, such as hls-l30 or sentinel-2-l2a.")] = None,
    scale: Annotated[float | None, typer.Option(help="Value = reflectance x scale.")] = None,
    offset: Annotated[float | None, typer.Option(help="Added to every value before it is scaled.")] = None,
    nodata: Annotated[float | None, typer.Option(help="Value of pixels without data.")] = None,
    date: Annotated[list[str] | None, typer.Option(help="Date of each file (2022-05-31), in order.")] = None,
    order: Annotated[str | None, typer.Option(help="Of a file with several dates: time-major or band-major.")] = None,
    device: Annotated[str | None, typer.Option(help="Torch device; a GPU where there is one.")] = None,
) -> None:
    """Fills the holes and clouds of every date from the other dates.

    Writes DATE.tif (reflectance x 10,000) and DATE_filled.tif (0 observed, 1 filled, 255 nothing) for each.
    """
    from prithvi.cli.progress import Bar
    from prithvi.errors import SceneError
    from prithvi.mapping.masks import clear_of
    from prithvi.mapping.series import fill_series
    from prithvi.scenes import open_scene

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
        by_day = dict(zip(days, masks, strict=True))
        masks = [by_day[str(day)] for day in opened["time"].dt.strftime("%Y-%m-%d").values]
    clear = clear_of(masks, opened) if masks else None
    if clouds is None and masks:
        typer.echo("What is cloud is taken from each granule's Fmask.", err=True)
    dates: int | None = min(together, opened.sizes["time"])
    names: Sequence[str] | None = None
    if method is None:
        how, names, side = _model(sources[0], min(together, opened.sizes["time"]), device)
    else:
        how, side = _method(method), 224
        dates = None if method in ("nearest", "linear") else dates
    with Bar(f"{opened.sizes['time']} dates of {opened.sizes['y']} x {opened.sizes['x']}") as bar:
        result = fill_series(
            opened, output, how, bands=names, clear=clear, dates=dates, window=window or side, stride=stride,
            progress=bar,
        )  # fmt: skip
    total = max(1, result.observed + result.filled + result.empty)
    typer.echo(
        f"{output}: {len(result.paths)} dates; {result.observed / total:.1%} observed, "
        f"{result.filled / total:.1%} filled, {result.empty / total:.1%} left empty"
    )


def _fmasks(series: Sequence[str]) -> list[str]:
    """The Fmask of each granule folder; empty where one has none."""
    found = [sorted(Path(entry).glob("*Fmask.tif")) if Path(entry).is_dir() else [] for entry in series]
    return [str(files[0]) for files in found] if all(len(files) == 1 for files in found) else []


def _method(name: str) -> Fill:
    """A method without weights, on reflectance 0 to 1."""
    from prithvi.errors import ConfigError, nearest
    from prithvi.evaluation.gaps import GAP_METHODS, days_of

    if name not in GAP_METHODS:
        raise ConfigError(f"there is no method {name!r}: {nearest(name, GAP_METHODS)}")
    method = GAP_METHODS[name]
    return lambda image, known, times, place: (1e4 * method(image / 1e4, known, days_of(times))).astype("float32")


def _model(name: str, frames: int, device: str | None) -> tuple[Fill, Sequence[str], int]:
    """A pretrained model for a number of dates, its bands, and the side of the squares that it was trained on."""
    from prithvi.errors import ModelError
    from prithvi.mapping.gaps import with_model
    from prithvi.modelfolder import load
    from prithvi.models import PrithviMAE

    model = load(name, num_frames=frames)
    if not isinstance(model, PrithviMAE):
        raise ModelError(f"{name} is fine-tuned for classes; gaps are filled by a pretrained model or a gap filler.")
    return with_model(model, device), model.contract.bands, model.config.img_size[0]
