"""`prithvi data search`, `choose` and `get`: which granules there are, those that count, and these on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from prithvi.cli.options import Frames, Json, MaxCloud, MaxGap, MinGap, Sequences
from prithvi.errors import counted


def search_verb(
    bbox: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(help="West, south, east, north in degrees; 179 -17 -179 -16 is across the date line."),
    ] = None,
    area: Annotated[Path | None, typer.Option(help="Vector file, instead of a box.")] = None,
    start: Annotated[str | None, typer.Option(help="First year, month or day: 2022, 2022-03, 2022-03-15.")] = None,
    end: Annotated[str | None, typer.Option(help="Last year, month or day, itself included.")] = None,
    max_cloud: Annotated[float | None, typer.Option(help="Largest share of clouds in per cent.")] = None,
    api: Annotated[
        str, typer.Option(help="lpcloud, planetary-computer, the address of a STAC API, or a local folder or catalog.")
    ] = "lpcloud",
    product: Annotated[list[str] | None, typer.Option(help="L30 or S30; both if left out.")] = None,
    limit: Annotated[int | None, typer.Option(help="Most granules.", min=1)] = None,
    output: Annotated[
        list[Path] | None, typer.Option("--output", "-o", help="File to write: .parquet or .json; several if repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Finds HLS granules by place, time and clouds."""
    from prithvi.hls.items import table, write_items
    from prithvi.hls.search import read_area, search

    place, products = read_area(area) if area is not None else None, product or ("L30", "S30")
    items = search(
        api, bbox=bbox, area=place, start=start, end=end, max_cloud=max_cloud, products=products, limit=limit
    )
    for path in output or ():
        write_items(items, path)
    if as_json:
        typer.echo(json.dumps([item.id for item in items], indent=2))
        return
    frame = table(items)
    typer.echo("tile   product  granules  first       last        median clouds")
    for (tile, product), rows in frame.groupby(["tile", "product"]):
        cloud = rows["cloud"].median()
        typer.echo(
            f"{tile:6} {product:7} {len(rows):9,}  {rows['time'].min():%Y-%m-%d}  {rows['time'].max():%Y-%m-%d}  "
            f"{'unknown' if cloud != cloud else f'{cloud:.0f} %':>13}"
        )
    typer.echo(f"{counted(len(frame), 'granule')} of {counted(frame['tile'].nunique(), 'tile')}")
    for path in output or ():
        typer.echo(f"written to {path}")


def choose_verb(
    source: Annotated[str, typer.Argument(help="A search result, a folder of granules, or a STAC catalog.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .parquet or .json.")],
    frames: Frames = 3,
    min_gap: MinGap = 28,
    max_gap: MaxGap = 84,
    max_cloud: MaxCloud = 15.0,
    max_missing: Annotated[float, typer.Option(help="Per cent of a granule without data, relaxed likewise.")] = 5.0,
    sequences: Sequences = 10,
    tiles: Annotated[Path | None, typer.Option(help="Vector file: a row a tile (column tile), with strata.")] = None,
    strata: Annotated[list[str] | None, typer.Option(help="Column of the tiles that decides; repeat for more.")] = None,
    count: Annotated[int | None, typer.Option(help="Tiles to draw.", min=1)] = None,
    clusters: Annotated[int | None, typer.Option(help="Clusters that columns of numbers are put into.")] = None,
    minimum: Annotated[int, typer.Option(help="Tiles that every class keeps.")] = 3,
    validation: Annotated[float, typer.Option(help="Share of the tiles that validate.")] = 0.05,
    overlap: Annotated[float, typer.Option(help="Share of itself a training tile may share with one of those.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 1911,
) -> None:
    """Chooses tiles so that strata count alike, and dates that are clear and far enough apart."""
    from prithvi.chips.date_plan import DateRule, choose_dates
    from prithvi.chips.tile_sampling import read_tiles, sample_tiles
    from prithvi.cli.progress import bar
    from prithvi.errors import ConfigError
    from prithvi.hls.items import read_items, write_items

    items = read_items(source)
    split = None
    if tiles is not None:
        if not strata:
            raise ConfigError("--tiles was given without the columns that decide: --strata NAME.")
        universe = read_tiles(tiles, items)
        shares = {"validation": validation, "overlap": overlap}
        drawn = sample_tiles(
            universe, strata, count=count or len(universe), clusters=clusters, minimum=minimum, seed=seed, **shares
        )
        typer.echo(drawn.sentence())
        split = dict(zip(drawn.tiles["tile"], drawn.tiles["split"], strict=True))
    elif strata or count is not None:
        raise ConfigError("--strata and --count choose among --tiles FILE, which was not given.")
    rule = DateRule.of_percent(frames, min_gap, max_gap, max_cloud, max_missing, wanted=sequences)
    with bar("looking for clear dates") as progress:
        chosen = choose_dates(items, rule, split=split, progress=progress, note=typer.echo)
    write_items(chosen, output)
    typer.echo(f"{output}: {len(chosen):,} of {counted(len(items), 'granule')}")


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
    from prithvi.cli.progress import bar

    if not Path(source).exists() and source in dataset_names():
        with bar(source) as progress:
            fetch_dataset(source, output, progress)
        typer.echo(f"{output}: {source} is unpacked (--data.root {output})")
        return
    from prithvi.bands import PRITHVI_BANDS, check_names
    from prithvi.hls.download import get
    from prithvi.hls.items import read_items

    names = check_names(bands.split(",")) if bands is not None else PRITHVI_BANDS
    items = read_items(source)
    with bar(counted(len(items), "granule")) as progress:
        got = get(items, output, bands=names, workers=workers, progress=progress)
    typer.echo(f"{output}: {counted(len(got), 'granule')} ({output / 'items.json'})")
