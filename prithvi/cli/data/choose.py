"""`prithvi data choose`: tiles by stratum, dates by clouds and gaps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prithvi.cli.options import Frames, MaxCloud, MaxGap, MinGap, Sequences


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
    from prithvi.cli.progress import Bar
    from prithvi.errors import ConfigError
    from prithvi.hls.items import read_items, write_items

    items = read_items(source)
    split = None
    if tiles is not None:
        if not strata:
            raise ConfigError("--tiles was given without the columns that decide: --strata NAME.")
        universe = read_tiles(tiles, items)
        drawn = sample_tiles(
            universe, strata, count=count or len(universe), clusters=clusters, minimum=minimum, validation=validation,
            overlap=overlap, seed=seed,
        )  # fmt: skip
        typer.echo(drawn.sentence())
        split = dict(zip(drawn.tiles["tile"], drawn.tiles["split"], strict=True))
    elif strata or count is not None:
        raise ConfigError("--strata and --count choose among --tiles FILE, which was not given.")
    rule = DateRule.of_percent(frames, min_gap, max_gap, max_cloud, max_missing, wanted=sequences)
    with Bar("looking for clear dates") as bar:
        chosen = choose_dates(items, rule, split=split, progress=bar, note=typer.echo)
    write_items(chosen, output)
    typer.echo(f"{output}: {len(chosen):,} of {len(items):,} granules")
