"""`prithvi data get`: granules, or a public dataset, to disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def get_verb(
    source: Annotated[
        str, typer.Argument(help="A search result (.parquet, .json), a STAC catalog, or a dataset's name.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.")],
    bands: Annotated[str | None, typer.Option(help="Common names, such as red,nir_narrow; the models' six.")] = None,
    workers: Annotated[int, typer.Option(help="Files fetched at once.", min=1)] = 4,
) -> None:
    """Fetches the bands and Fmask of granules, or the archives of a dataset. Whole files are kept, begun ones go on."""
    from prithvi.catalog.stac_catalog import dataset_names, fetch_dataset
    from prithvi.cli.progress import Bar

    if not Path(source).exists() and source in dataset_names():
        with Bar(source) as bar:
            fetch_dataset(source, output, bar)
        typer.echo(f"{output}: {source} is unpacked (--data.root {output})")
        return
    from prithvi.bands import PRITHVI_BANDS, check_names
    from prithvi.hls.download import get
    from prithvi.hls.items import read_items

    names = check_names(bands.split(",")) if bands is not None else PRITHVI_BANDS
    items = read_items(source)
    with Bar(f"{len(items)} granules") as bar:
        got = get(items, output, bands=names, workers=workers, progress=bar)
    typer.echo(f"{output}: {len(got):,} granules ({output / 'items.json'})")
