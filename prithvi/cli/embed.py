"""`prithvi embed`: a scene to the vectors that an encoder sees in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prithvi.cli.options import Accept, Bands, BatchSize, Dates, Device, Nodata, Offset, Order, Scale, Sensor, Stride

if TYPE_CHECKING:
    from prithvi.contract import Contract
    from prithvi.mapping.embeddings import Embeddable


def embed_verb(
    model: Annotated[str, typer.Argument(help="Name, hub id or folder of a pretrained or fine-tuned model.")],
    scene: Annotated[list[str], typer.Argument(help="A raster, its single-band files, or a folder of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: NAME.tif or NAME.zarr.")],
    layer: Annotated[int, typer.Option(help="Block of the encoder, from 0, or from -1 (the last) backwards.")] = -1,
    pooled: Annotated[bool, typer.Option("--pooled", help="One vector a window instead of one a patch.")] = False,
    bands: Bands = None,
    sensor: Sensor = None,
    scale: Scale = None,
    offset: Offset = None,
    nodata: Nodata = None,
    accept: Accept = None,
    date: Dates = None,
    order: Order = None,
    window: Annotated[
        int | None, typer.Option(help="Side of the squares that are looked at, in pixels; the model's by default.")
    ] = None,
    stride: Stride = None,
    batch_size: BatchSize = 8,
    device: Device = None,
) -> None:
    """Writes a vector for every patch (or window) of a scene, as a GeoTIFF or a Zarr store of 16-bit floats."""
    from prithvi.cli.allocator import keep_windows
    from prithvi.cli.progress import Bar
    from prithvi.cli.words import band_numbers, typed
    from prithvi.mapping import embed_scene
    from prithvi.scenes import open_scene

    given, contract = _model(model)
    opened = open_scene(
        scene[0] if len(scene) == 1 else scene, bands=band_numbers(bands, contract), sensor=sensor, scale=scale,
        offset=offset, nodata=nodata, dates=date or None, order=order,
    )  # fmt: skip
    title = f"{Path(scene[0]).name} {opened.sizes['y']} x {opened.sizes['x']}"
    keep_windows()
    with Bar(title) as bar:
        path = embed_scene(
            given, opened, output, layer=layer, pooled=pooled, window=window, stride=stride, batch_size=batch_size,
            device=device, accept=accept or (), command=typed(), progress=bar,
        )  # fmt: skip
    typer.echo(f"{path}: layer {layer} of {model}, a vector a {'window' if pooled else 'patch'}")


def _model(name: str) -> tuple[Embeddable, Contract]:
    """What to embed with, as far as it can be loaded before the number of dates is known, and what it expects."""
    from prithvi.errors import ModelError
    from prithvi.fitted import Mappable
    from prithvi.modelfolder import contract_of, load

    if not Path(name).is_file():
        return name, contract_of(name)
    found = load(name)
    if isinstance(found, Mappable):
        raise ModelError(f"{name} is an exported program, which gives no embeddings: take its model folder.")
    return found, found.contract
