"""Options that verbs share, and what is made of them: bands, a scene looked at before torch is there, the command."""

from __future__ import annotations

import functools
import inspect
import shlex
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import xarray as xr

    from prithvi.contract import Contract
    from prithvi.modelio.model_files import Requirements

TRUST = "PRITHVI_TRUST_CLASSES"
"""Variable with packages, between commas, whose classes a configuration may name (`--trust-classes`)."""
_PRODUCTS = (
    "hls-l30", "hls-s30", "sentinel-2-l1c", "sentinel-2-l2a", "landsat-8-c2-l2", "landsat-9-c2-l2", "landsat-457-c2-l2",
    "landsat-8-espa-sr", "landsat-457-espa-sr",
)  # fmt: skip
"""Those of `prithvi.catalog`, which --help does not import."""
Bands = Annotated[
    str | None,
    typer.Option("--bands", help="Numbers of the model's bands in the file, from 1; or the names of all its bands."),
]
BandsOfFile = Annotated[
    str | None,
    typer.Option(
        "--bands",
        help="Names of all bands of a file, in order; or numbers of blue, green, red, nir_narrow, swir_1, swir_2.",
    ),
]
Accept = Annotated[list[str] | None, typer.Option("--accept", help="nir_broad: use it where nir_narrow is missing.")]
Stride = Annotated[
    int | None, typer.Option("--stride", help="Pixels between windows; half a window by default.", min=1)
]
ZarrFormat = Annotated[
    int, typer.Option("--zarr-format", help="Of a .zarr: 2 is what all readers open, 3 has nodata and overviews.")
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size", help="Windows predicted at once; by default 8 of 224 pixels, up to 32 of smaller ones.", min=1
    ),
]
Clouds = Annotated[
    list[str] | None,
    typer.Option(
        "--clouds",
        help="Cloud mask of each date, in the order of the dates; none for a date without one. Or auto: those that lie "
        "beside the sources, and for dates without one masks that a network makes (prithvi[clouds]).",
    ),
]
CloudsAre = Annotated[
    str | None,
    typer.Option(
        "--clouds-are",
        help="What the masks are, where their names do not say it: fmask, scl, qa_pixel, pixel_qa, cfmask, "
        "dswx_cloud, cloud (your own, 0 is clear) or clear (your own, 1 is clear).",
    ),
]
Report = Annotated[Path | None, typer.Option("--report", help="Write a page to look at, too: report.html.")]
Device = Annotated[str | None, typer.Option("--device", help="Torch device; a GPU where there is one.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

# Dates of chips
Frames = Annotated[int, typer.Option(help="Dates in a chip.", min=1)]
MinGap = Annotated[int, typer.Option(help="Least days between two dates.")]
MaxGap = Annotated[int, typer.Option(help="Most days between two dates, relaxed where too few.")]
MaxCloud = Annotated[float, typer.Option(help="Clouds of a granule in per cent, relaxed where too few.")]
Sequences = Annotated[int, typer.Option(help="Sequences of dates of a tile below which the rule is relaxed.")]


def absolute(words: Sequence[str]) -> list[str]:
    """With whole paths of what is on this machine: workers of a cluster have working folders of their own."""
    return [str(Path(word).absolute()) if Path(word).exists() else word for word in words]


def _opening(
    sensor: Annotated[str | None, typer.Option("--sensor", help=f"Product: {', '.join(_PRODUCTS)}.")] = None,
    scale: Annotated[float | None, typer.Option("--scale", help="Value = reflectance x scale.")] = None,
    offset: Annotated[float | None, typer.Option("--offset", help="Added to every value before it is scaled.")] = None,
    nodata: Annotated[float | None, typer.Option("--nodata", help="Value of pixels without data.")] = None,
    dates: Annotated[
        list[str] | None,
        typer.Option("--date", help="Date of each file or time step, in order (2022-05-31 or 20220531)."),
    ] = None,
    order: Annotated[
        str | None, typer.Option("--order", help="Of a file with several dates: time-major or band-major.")
    ] = None,
    level: Annotated[
        str | None, typer.Option("--level", help="SR (surface reflectance) or TOA, where the sensor does not say it.")
    ] = None,
) -> None:
    """How `prithvi.open_scene` opens a scene; its bands are an option of each verb's own."""


def with_opening(verb: Callable[..., None]) -> Callable[..., None]:
    """Gives a verb the options above in the place of its parameter `opening`, which gets them as one dictionary."""

    @functools.wraps(verb)
    def opened(**given: Any) -> None:
        verb(opening={name: given.pop(name) for name in shared}, **given)

    # Typer reads options off the signature.
    shared = inspect.signature(_opening, eval_str=True).parameters
    parameters: list[inspect.Parameter] = []
    for each in inspect.signature(verb, eval_str=True).parameters.values():
        parameters += shared.values() if each.name == "opening" else [each]
    opened.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return opened


def source_of(sources: Sequence[str]) -> str | list[str]:
    """What `prithvi.open_scene` takes: one source as it is, or several as a list."""
    return sources[0] if len(sources) == 1 else list(sources)


def open_and_check(
    sources: Sequence[str],
    opening: Mapping[str, Any],
    contract: Contract,
    accept: Sequence[str] | None,
    needs: Requirements | None = None,
) -> xr.DataArray:
    """A scene that fits a model: its bands and scale and, where `needs` is known, its size and number of dates.

    Args:
        sources: the files of one scene.
        opening: of `prithvi.open_scene`.
        contract: what the model expects of its input.
        accept: see `prithvi.scenes.conform`.
        needs: what else the model's files state.

    Raises:
        SceneError, BandError, ScaleError: it does not fit.

    """
    from prithvi.modelio.model_files import check_size
    from prithvi.scenes import conform, open_scene

    scene = open_scene(source_of(sources), **opening)
    if needs is not None:
        check_size(needs, scene)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are shown when the scene is conformed to the opened model
        conform(scene, contract, tuple(accept or ()))
    return scene


def series_with_masks(
    sources: Sequence[str],
    opening: dict[str, Any],
    clouds: Sequence[str] | None,
    clouds_are: str | None,
    read: Callable[..., xr.DataArray],
    output: Path,
    resume: bool,
) -> tuple[xr.DataArray, xr.DataArray | None, list[str]]:
    """A series of several dates and its cloud masks, told on stderr.

    Args:
        sources: files or granule folders.
        opening: of `prithvi.open_scene`, with its bands.
        clouds: a mask for each source, `none` for one without; `auto` has them made where none lies beside the sources;
            None takes those that do.
        clouds_are: what they hold, see `prithvi.mapping.clear_of`.
        read: what makes an array of them, `prithvi.mapping.clear_of` or `prithvi.mapping.ranks_of`.
        output: of the verb; masks that are made lie in it, or, of NAME.zarr, in NAME_clouds beside it.
        resume: keep the masks, and the rows of one, that an interrupted run has finished.

    Returns:
        The series, the masks laid over it (None without any), and the files of both.

    Raises:
        SceneError, ConfigError: see `prithvi.open_scene` and `clear_of`.

    """
    from prithvi.mapping.mask_sources import clear_of_sources, is_auto, masks_beside, masks_for
    from prithvi.scenes import open_scene

    opened = open_scene(source_of(sources), **opening)
    masks: Sequence[str | Path | None]
    if is_auto(clouds, clouds_are):
        folder = output if output.suffix != ".zarr" else output.with_name(f"{output.stem}_clouds")
        masks = masks_for(sources, opened, opening, folder, resume=resume, command=typed())
        laid: xr.DataArray | None = read(masks, opened)
    else:
        masks = [None if each == "none" else each for each in clouds or ()]
        masks = masks or masks_beside(sources, opened.sizes["time"])
        laid = clear_of_sources(sources, opened, masks, clouds_are, opening, read)
    none = "No cloud mask: all that has data counts as clear (--clouds FILE for each date, or auto, says what is not)."
    told = [none] if laid is None else laid.attrs["masks"]
    typer.echo("\n".join(told), err=True)
    return opened, laid, [*sources, *(str(mask) for mask in masks if mask is not None)]


def typed() -> str:
    """The command as it was typed, for the files that it writes.

    `--resume` is left out, because a resumed run ends in the same bytes, and so are the signatures of addresses.
    """
    from prithvi.scenes.paths import shown

    return shlex.join(["prithvi", *(shown(word) for word in sys.argv[1:] if word != "--resume")])


def words_of(text: str | None) -> list[str]:
    """The words between commas; none of an empty text."""
    return [word.strip() for word in text.split(",")] if text else []


def band_numbers(text: str | None, contract: Contract | None = None) -> Sequence[str] | dict[str, int] | None:
    """`2,3,4` as a model's bands by number, without one those of `PRITHVI_BANDS`; `blue,green` as names in file order.

    Raises:
        BandError: another number of numbers than there are bands.

    """
    from prithvi.bands import PRITHVI_BANDS
    from prithvi.errors import BandError

    words = words_of(text)
    if not words or not all(word.isdigit() for word in words):
        return words or None
    wanted = contract.bands if contract is not None else PRITHVI_BANDS
    if len(words) != len(wanted):
        told = f"{len(wanted)}, one each for {', '.join(wanted)}"
        told = f"this model wants {told}" if contract is not None else f"wanted are {told}, or the names of all bands"
        raise BandError(f"--bands has {len(words)} numbers; {told}.")
    return dict(zip(wanted, map(int, words), strict=True))
