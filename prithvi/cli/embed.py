"""`prithvi embed`: a scene to the vectors that an encoder sees in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from prithvi.contract import Contract
    from prithvi.mapping.embedder import Embeddable


def embed_verb(
    model: Annotated[str, typer.Argument(help="Name, hub id or folder of a pretrained or fine-tuned model.")],
    scene: Annotated[list[str], typer.Argument(help="A raster, its single-band files, or a folder of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: NAME.tif or NAME.zarr.")],
    layer: Annotated[int, typer.Option(help="Block of the encoder, from 0, or from -1 (the last) backwards.")] = -1,
    pooled: Annotated[bool, typer.Option("--pooled", help="One vector a window instead of one a patch.")] = False,
    bands: Annotated[
        str | None,
        typer.Option(help="Numbers of the model's bands in the file, counted from 1; or the names of all its bands."),
    ] = None,
    sensor: Annotated[str | None, typer.Option(help="Product of the scene, such as hls-l30 or sentinel-2-l1c.")] = None,
    scale: Annotated[float | None, typer.Option(help="Value = reflectance x scale.")] = None,
    offset: Annotated[float | None, typer.Option(help="Added to every value before it is scaled.")] = None,
    nodata: Annotated[float | None, typer.Option(help="Value of pixels without data.")] = None,
    accept: Annotated[list[str] | None, typer.Option(help="nir_broad: use it where nir_narrow is missing.")] = None,
    date: Annotated[
        list[str] | None, typer.Option(help="Date of the scene (2022-05-31), one for each time step.")
    ] = None,
    order: Annotated[str | None, typer.Option(help="Of a file with several dates: time-major or band-major.")] = None,
    window: Annotated[
        int | None, typer.Option(help="Side of the squares that are looked at, in pixels; the model's by default.")
    ] = None,
    stride: Annotated[int | None, typer.Option(help="Pixels between windows; half a window by default.", min=1)] = None,
    batch_size: Annotated[int, typer.Option(help="Windows at once.", min=1)] = 8,
    device: Annotated[str | None, typer.Option(help="Torch device; a GPU where there is one.")] = None,
) -> None:
    """Writes a vector for every patch (or window) of a scene, as a GeoTIFF or a Zarr store of 16-bit floats."""
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
