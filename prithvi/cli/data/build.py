"""`prithvi data build`: granules or a public dataset to a chip store."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prithvi.cli.opening import listed
from prithvi.cli.options import Frames, MaxCloud, MaxGap, MinGap, Sequences

if TYPE_CHECKING:
    from prithvi.parallel import Progress


def build_verb(
    source: Annotated[str, typer.Argument(help="A search result, a folder of granules, or the name of a dataset.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The store to write, such as girona.zarr.")],
    size: Annotated[
        int | None, typer.Option(help="Side of a chip in pixels (224; datasets: whole images).", min=1)
    ] = None,
    frames: Frames = 3,
    root: Annotated[Path | None, typer.Option(help="Where a dataset's archive was unpacked.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Vector file or class raster with labels.")] = None,
    class_column: Annotated[str | None, typer.Option(help="The vector file's column with the classes.")] = None,
    background: Annotated[
        str | None, typer.Option(help="Class of pixels outside every feature; left out: unlabelled.")
    ] = None,
    ignore: Annotated[
        str | None,
        typer.Option(help="Values of a label raster (252,253), or classes of the column, that are no class."),
    ] = None,
    keep: Annotated[str | None, typer.Option(help="Values of a label raster that are classes, such as 255.")] = None,
    label_product: Annotated[
        str | None, typer.Option(help="What a label raster is: dswx-hls, dswx-hls-bwtr, ...; else by its name.")
    ] = None,
    min_labelled: Annotated[float, typer.Option(help="Leave out chips with no more than this share labelled.")] = 0.0,
    split: Annotated[
        str | None, typer.Option(help="block:5km (parts that far apart), or column:NAME of the label file.")
    ] = None,
    area: Annotated[Path | None, typer.Option(help="Vector file: only chips that touch it.")] = None,
    good: Annotated[float, typer.Option(help="Least share of good pixels by Fmask on each date.")] = 0.8,
    missing: Annotated[float, typer.Option(help="Largest share of missing pixels on each date.")] = 0.01,
    max_cloud: MaxCloud = 15.0,
    min_gap: MinGap = 28,
    max_gap: MaxGap = 84,
    sequences: Sequences = 10,
    per_tile: Annotated[int, typer.Option(help="Most chips of a tile.", min=1)] = 3000,
    per_place: Annotated[int, typer.Option(help="Most chips of one place.", min=1)] = 10,
    codec: Annotated[str, typer.Option(help="zstd (smaller) or lz4 (faster).")] = "zstd",
    shard: Annotated[int, typer.Option(help="Chips in a file.", min=1)] = 64,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    scheduler: Annotated[
        str | None, typer.Option(help="Dask scheduler (tcp://host:8786); threads if left out.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Threads; one a core.", min=1)] = None,
    append: Annotated[bool, typer.Option("--append", help="Add to a store that is there.")] = False,
) -> None:
    """Cuts chips that pass the filters, and keeps them in a Zarr store. A killed build goes on where it was."""
    from prithvi.catalog import dataset_names
    from prithvi.chips import DateRule, Filters
    from prithvi.chips.recipes import Recipe, store_of_dataset, store_of_granules
    from prithvi.cli.progress import Bar
    from prithvi.errors import ConfigError

    # A bar for each stage of the build: the one before is closed as the next begins, the last whatever happens.
    with ExitStack() as bars:

        def progress(title: str) -> Progress:
            bars.close()
            return bars.enter_context(Bar(title))

        common: dict[str, Any] = {
            "split": split,
            "codec": codec,
            "shard": shard,
            "seed": seed,
            "scheduler": scheduler,
            "workers": workers,
            "append": append,
            "progress": progress,
        }
        if not Path(source).exists() and source in dataset_names():
            if root is None:
                raise ConfigError(f"{source} is a dataset: say where its archive was unpacked (--root DIR).")
            if labels is not None or ignore or keep or label_product:
                raise ConfigError(
                    f"{source} has labels of its own; --labels, --ignore, --keep and --label-product are for granules."
                )
            store = store_of_dataset(source, root, output, size=size, **common)
        else:
            recipe = Recipe(
                size=size or 224,
                frames=frames,
                filters=Filters(good, missing),
                dates=DateRule.of_percent(frames, min_gap, max_gap, max_cloud, wanted=sequences),
                per_tile=per_tile,
                per_place=per_place,
                labels=str(labels) if labels is not None else None,
                class_column=class_column,
                background=background,
                ignore=tuple(filter(None, listed(ignore))) if ignore else (),
                keep=tuple(filter(None, listed(keep))) if keep else (),
                label_product=label_product,
                least_labelled=min_labelled,
                area=str(area) if area is not None else None,
            )
            store = store_of_granules(source, output, recipe, note=lambda text: typer.echo(text, err=True), **common)
    parts = store.attributes["samples"].items()
    named = ", ".join(f"{count:,} {part or 'in no part'}" for part, count in parts)
    typer.echo(f"{store.path}: {len(store):,} chips ({named})")
