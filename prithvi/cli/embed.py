"""`prithvi embed`: a scene to the vectors that an encoder sees in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from prithvi.cli import options as shared


@shared.with_opening
def embed_verb(
    model: Annotated[str, typer.Argument(help="Name, hub id or folder of a pretrained or fine-tuned model.")],
    scene: Annotated[list[str], typer.Argument(help="A raster, its single-band files, or a folder of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: NAME.tif or NAME.zarr.")],
    layer: Annotated[int, typer.Option(help="Block of the encoder, from 0, or from -1 (the last) backwards.")] = -1,
    pooled: Annotated[bool, typer.Option("--pooled", help="One vector a window instead of one a patch.")] = False,
    pixels: Annotated[bool, typer.Option("--pixels", help="One vector a pixel, of a model with a branch.")] = False,
    bands: shared.Bands = None,
    accept: shared.Accept = None,
    *,
    opening: dict[str, Any],
    window: Annotated[
        int | None, typer.Option(help="Side of the squares that are looked at, in pixels; the model's by default.")
    ] = None,
    stride: shared.Stride = None,
    dtype: Annotated[
        str, typer.Option(help="float16; or int8, whole numbers with a scale that xarray and GDAL apply themselves.")
    ] = "float16",
    patches: Annotated[
        bool, typer.Option("--patches", help="Write NAME.parquet, too: a row a patch, with outline and vector.")
    ] = False,
    zarr_format: shared.ZarrFormat = 2,
    batch_size: shared.BatchSize = None,
    device: shared.Device = None,
) -> None:
    """Writes a vector for every patch (or window) of a scene, as a GeoTIFF or a Zarr store."""
    from prithvi.cli.progress import bar, keep_windows
    from prithvi.errors import ModelError
    from prithvi.files import refuse_unwritable
    from prithvi.modelio.model_files import SUFFIX, requirements_of

    if model.endswith(SUFFIX):
        raise ModelError(f"{model} is an exported program, which gives no embeddings: take its model folder.")
    refuse_unwritable(output.parent)
    needs = requirements_of(model)
    given: Any = model
    if needs is not None:
        contract = needs.contract
    else:
        from prithvi.modelio import contract_of, load

        # A file does not say what it is until it is opened.
        given = load(model) if Path(model).is_file() else model
        contract = contract_of(model) if given is model else given.contract
    opening["bands"] = shared.band_numbers(bands, contract)
    opened = shared.open_and_check(scene, opening, contract, accept, needs)

    from prithvi.mapping import embed_scene
    from prithvi.scenes.paths import shown

    keep_windows()
    with bar(f"{Path(shown(scene[0])).name} {opened.sizes['y']} x {opened.sizes['x']}") as progress:
        path = embed_scene(
            given, opened, output, layer=layer, pooled=pooled, pixels=pixels, window=window, stride=stride,
            batch_size=batch_size, device=device, accept=accept or (), zarr_format=zarr_format, dtype=dtype,
            patches=patches, command=shared.typed(), progress=progress,
        )  # fmt: skip
    each = "pixel" if pixels else "window" if pooled else "patch"
    beside = f", and {path.with_suffix('.parquet').name} beside it" if patches else ""
    typer.echo(f"{path}: layer {layer} of {model}, a vector a {each}{beside}")
