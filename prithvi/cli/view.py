"""`prithvi view`: results as one page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from prithvi.cli.options import BandsOfFile, band_numbers, source_of, with_opening


@with_opening
def view_verb(
    result: Annotated[
        list[Path], typer.Argument(help="Maps, folders or stores that prithvi map, fill or compare wrote.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("report.html"),
    scene: Annotated[
        list[str] | None, typer.Option(help="What the one map was made of; default the file that it names.")
    ] = None,
    bands: BandsOfFile = None,
    *,
    opening: dict[str, Any],
    title: Annotated[str | None, typer.Option(help="Default the names of the results.")] = None,
) -> None:
    """Writes a page that opens from disk without a network: image and result over each other, areas, values, origin."""
    from prithvi.errors import ConfigError
    from prithvi.report import view
    from prithvi.scenes import open_scene

    opened = None
    if scene:
        opening["bands"] = band_numbers(bands)
        opened = open_scene(source_of(scene), **opening)
    elif bands or any(value is not None for value in opening.values()):
        raise ConfigError("options of the scene were given without one: --scene FILE.")
    typer.echo(f"Written: {view(result, output, scene=opened, title=title)}")
