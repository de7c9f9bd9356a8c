"""`prithvi data search`: which granules there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prithvi.cli.options import Json

if TYPE_CHECKING:
    import pystac


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
    from prithvi.hls.items import write_items
    from prithvi.hls.search import read_area, search

    items = search(
        api,
        bbox=bbox,
        area=read_area(area) if area is not None else None,
        start=start,
        end=end,
        max_cloud=max_cloud,
        products=product or ("L30", "S30"),
        limit=limit,
    )
    for path in output or ():
        write_items(items, path)
    if as_json:
        typer.echo(json.dumps([item.id for item in items], indent=2))
        return
    say(items)
    for path in output or ():
        typer.echo(f"written to {path}")


def say(items: list[pystac.Item]) -> None:
    """Prints a line for each tile and product."""
    from prithvi.hls.items import table

    frame = table(items)
    typer.echo("tile   product  granules  first       last        median clouds")
    for (tile, product), rows in frame.groupby(["tile", "product"]):
        cloud = rows["cloud"].median()
        typer.echo(
            f"{tile:6} {product:7} {len(rows):9,}  {rows['time'].min():%Y-%m-%d}  {rows['time'].max():%Y-%m-%d}  "
            f"{'unknown' if cloud != cloud else f'{cloud:.0f} %':>13}"
        )
    typer.echo(f"{len(frame):,} granules of {frame['tile'].nunique()} tiles")
