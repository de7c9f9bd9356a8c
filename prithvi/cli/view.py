"""`prithvi view`: results as one page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prithvi.cli.options import Dates, Nodata, Offset, Order, Scale, Sensor


def view_verb(
    result: Annotated[list[Path], typer.Argument(help="Maps, or folders that prithvi map, fill or compare wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("report.html"),
    scene: Annotated[
        list[str] | None, typer.Option(help="What the one map was made of; default the file that it names.")
    ] = None,
    bands: Annotated[
        str | None, typer.Option(help="Of the scene: names of its bands in order, or numbers of the usual six.")
    ] = None,
    sensor: Sensor = None,
    scale: Scale = None,
    offset: Offset = None,
    nodata: Nodata = None,
    date: Dates = None,
    order: Order = None,
    title: Annotated[str | None, typer.Option(help="Default the names of the results.")] = None,
) -> None:
    """Writes a page that opens from disk without a network: image and result over each other, areas, values, origin."""
    from prithvi.errors import ConfigError
    from prithvi.report import view
    from prithvi.scenes import open_scene

    said = {"sensor": sensor, "scale": scale, "offset": offset, "nodata": nodata, "dates": date or None, "order": order}
    opened = None
    if scene:
        words = [word.strip() for word in bands.split(",")] if bands else None
        numbers = [int(word) for word in words] if words and all(word.isdigit() for word in words) else words
        opened = open_scene(scene[0] if len(scene) == 1 else scene, bands=numbers, **said)  # type: ignore[arg-type]
    elif bands or any(value is not None for value in said.values()):
        raise ConfigError("options of the scene were given without one: --scene FILE.")
    typer.echo(f"Written: {view(result, output, scene=opened, title=title)}")
