"""`prithvi embed`: a scene to the vectors that an encoder sees in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prithvi.cli.opening import band_numbers, open_and_check, typed, with_opening
from prithvi.cli.options import Accept, Bands, BatchSize, Device, Stride

if TYPE_CHECKING:
    from prithvi.mapping.embeddings import Embeddable


@with_opening
def embed_verb(
    model: Annotated[str, typer.Argument(help="Name, hub id or folder of a pretrained or fine-tuned model.")],
    scene: Annotated[list[str], typer.Argument(help="A raster, its single-band files, or a folder of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: NAME.tif or NAME.zarr.")],
    layer: Annotated[int, typer.Option(help="Block of the encoder, from 0, or from -1 (the last) backwards.")] = -1,
    pooled: Annotated[bool, typer.Option("--pooled", help="One vector a window instead of one a patch.")] = False,
    bands: Bands = None,
    accept: Accept = None,
    *,
    opening: dict[str, Any],
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
    from prithvi.errors import ModelError
    from prithvi.modelio.requirements import SUFFIX, requirements_of

    if model.endswith(SUFFIX):
        raise ModelError(f"{model} is an exported program, which gives no embeddings: take its model folder.")
    needs = requirements_of(model)
    given: Embeddable = model
    if needs is not None:
        contract = needs.contract
    elif Path(model).is_file():  # it does not say what it is until it is opened
        from prithvi.modelio import load

        given = load(model)
        contract = given.contract
    else:
        from prithvi.modelio import contract_of

        contract = contract_of(model)
    opening["bands"] = band_numbers(bands, contract)
    opened = open_and_check(scene, opening, contract, accept, needs)

    from prithvi.mapping import embed_scene

    title = f"{Path(scene[0]).name} {opened.sizes['y']} x {opened.sizes['x']}"
    keep_windows()
    with Bar(title) as bar:
        path = embed_scene(
            given, opened, output, layer=layer, pooled=pooled, window=window, stride=stride, batch_size=batch_size,
            device=device, accept=accept or (), command=typed(), progress=bar,
        )  # fmt: skip
    typer.echo(f"{path}: layer {layer} of {model}, a vector a {'window' if pooled else 'patch'}")
