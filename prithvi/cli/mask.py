"""`prithvi mask`: where scenes are clear, by the mask that lies beside each or by a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prithvi.cli import options as shared

if TYPE_CHECKING:
    from prithvi.mapping.class_maps import MapResult


@shared.with_opening
def mask_verb(
    scene: Annotated[
        list[str], typer.Argument(help="Rasters, folders of single bands, STAC items or addresses, each a scene.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.")],
    together: Annotated[
        bool, typer.Option("--together", help="Treat all inputs as one scene: its bands, or its dates.")
    ] = False,
    network: Annotated[
        bool, typer.Option("--network", help="Ask the network (prithvi[clouds]) also where a mask lies beside a scene.")
    ] = False,
    clouds: shared.Clouds = None,
    clouds_are: shared.CloudsAre = None,
    bands: shared.BandsOfFile = None,
    *,
    opening: dict[str, Any],
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the rows that an interrupted run has finished.")
    ] = False,
    report: shared.Report = None,
    as_json: shared.Json = False,
) -> None:
    """Writes where scenes are clear (0), cloudy (1), in the shadow of clouds (2) or without data (255).

    By the masks that are given, or Fmask, SCL or QA_PIXEL where one lies beside the scene, else by a network. Writes
    SCENE_clouds.tif, a STAC item and a QGIS style; of a scene of several dates DATE_SCENE_clouds.tif.
    """
    import json

    from prithvi.errors import ConfigError
    from prithvi.files import refuse_unwritable
    from prithvi.mapping.mask_sources import is_auto, mask_name, masks_by_date, refuse_unmaskable
    from prithvi.products.jobs import jobs_of
    from prithvi.scenes import open_scene

    jobs = jobs_of(scene, output, together)
    refuse_unwritable(output)
    given = [] if is_auto(clouds, clouds_are) else [None if each == "none" else each for each in clouds or ()]
    if network and (clouds or clouds_are):
        raise ConfigError("--network passes masks over: leave it out, or --clouds and --clouds-are.")
    if given and len(jobs) > 1:
        raise ConfigError(f"--clouds are the masks of one scene, and there are {len(jobs)}: mask each by itself.")
    opening["bands"] = shared.band_numbers(bands)
    planned = []
    for job in jobs:
        opened = open_scene(shared.source_of(job.sources), **opening)
        found = [None] * opened.sizes["time"] if network else masks_by_date(job.sources, opened, opening, given)
        if clouds_are is not None and not any(found):
            raise ConfigError("--clouds-are says what masks hold, and there are none: give them by --clouds.")
        if None in found:
            refuse_unmaskable(opened)
        planned.append((job, opened, found))

    from prithvi.cli.progress import bar, keep_windows
    from prithvi.mapping.cloud_masks import mask_scene

    keep_windows()
    results: list[MapResult] = []
    shown = {}
    for job, opened, found in planned:
        for place, mask in enumerate(found):
            date, path = opened.isel(time=[place]), output / mask_name(opened, place, Path(job.path).stem)
            with bar(path.name) as progress:
                made = mask_scene(
                    date, path, mask=mask, mask_is=clouds_are if mask is not None else None, resume=resume,
                    command=shared.typed(), progress=progress,
                )  # fmt: skip
            results.append(made)
            shown[path] = date
            if not as_json:
                _tell(made)
    if as_json:
        typer.echo(json.dumps([_plain(made) for made in results], indent=2))
    if report is not None:
        from prithvi.report import view

        view(list(shown), report, scenes=shown)
        typer.echo(f"To look at: {report}", err=True)


def _tell(made: MapResult) -> None:
    whole = max(1, sum(made.pixels.values()))
    shares = ", ".join(f"{name} {count / whole:.1%}" for name, count in made.pixels.items())
    typer.echo(f"{made.path}: {shares}; {made.without_data:,} pixels without data")
    for note in made.notes:
        typer.echo(f"Note: {note}", err=True)


def _plain(made: MapResult) -> dict[str, Any]:
    return {
        "mask": str(made.path), "pixels": made.pixels, "without_data": made.without_data,
        "files": [str(file) for file in made.files], "notes": list(made.notes),
    }  # fmt: skip
