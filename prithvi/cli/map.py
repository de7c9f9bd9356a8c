"""`prithvi map`: a scene to a map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from prithvi.contract import Contract


def map_verb(
    model: Annotated[str, typer.Argument(help="Folder of a fitted model.")],
    scene: Annotated[list[str], typer.Argument(help="A raster, its single-band files, or a folder of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.")],
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
    order: Annotated[
        str | None,
        typer.Option(help="Of a file with several dates: time-major or band-major."),
    ] = None,
    stride: Annotated[int | None, typer.Option(help="Pixels between windows; half a window by default.", min=1)] = None,
    batch_size: Annotated[int, typer.Option(help="Windows predicted at once.", min=1)] = 8,
    device: Annotated[str | None, typer.Option(help="Torch device; a GPU where there is one.")] = None,
) -> None:
    """Maps one scene to a Cloud-Optimized GeoTIFF named after it."""
    from prithvi.cli.progress import Bar
    from prithvi.errors import ModelError
    from prithvi.fitted import FittedModel
    from prithvi.mapping import map_scene
    from prithvi.modelfolder import load
    from prithvi.models.zoo import VARIANTS
    from prithvi.scenes import open_scene

    fitted = None if model in VARIANTS else load(model)
    if not isinstance(fitted, FittedModel):
        raise ModelError(f"{model} is a pretrained model; a map needs a fine-tuned one (prithvi fit, prithvi demo).")
    source = scene[0] if len(scene) == 1 else scene
    opened = open_scene(
        source,
        bands=_bands(bands, fitted.contract),
        sensor=sensor,
        scale=scale,
        offset=offset,
        nodata=nodata,
        dates=date or None,
        order=order,
    )
    first = Path(scene[0])
    target = output / f"{first.stem if first.suffix.lower() in _RASTERS else first.name}.tif"
    if target.exists() and any(target.samefile(path) for path in scene if Path(path).exists()):
        raise ModelError(f"{target} is the scene itself: choose another folder with -o.")
    title = f"{first.name} {opened.sizes['y']} x {opened.sizes['x']}"
    with Bar(title) as bar:
        result = map_scene(
            fitted,
            opened,
            target,
            stride=stride,
            batch_size=batch_size,
            device=device,
            accept=accept or (),
            progress=bar,
        )
    whole = sum(result.pixels.values())
    shares = ", ".join(f"{name} {count / max(whole, 1):.1%}" for name, count in result.pixels.items())
    typer.echo(f"{result.path}: {shares}; {result.without_data:,} pixels without data")


_RASTERS = (".tif", ".tiff", ".vrt", ".jp2", ".img", ".nc")


def _bands(text: str | None, contract: Contract) -> Sequence[str] | dict[str, int] | None:
    """`2,3,4` as the contract's bands by number, `blue,green` as names in file order."""
    from prithvi.errors import BandError

    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdigit() for word in words):
        return words
    if len(words) != len(contract.bands):
        raise BandError(
            f"--bands has {len(words)} numbers; this model wants {len(contract.bands)}, one each for "
            f"{', '.join(contract.bands)}."
        )
    return dict(zip(contract.bands, map(int, words), strict=True))
