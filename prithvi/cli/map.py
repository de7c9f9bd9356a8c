"""`prithvi map`: scenes to maps and the files beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prithvi.cli import options as shared

if TYPE_CHECKING:
    import xarray as xr

    from prithvi.mapping.batch import Outcome
    from prithvi.mapping.class_maps import MapResult
    from prithvi.modelio.model_files import Requirements
    from prithvi.products.products import Products
    from prithvi.scenes import Area


@shared.with_opening
def map_verb(
    model: Annotated[
        str,
        typer.Argument(help="A fitted model: a name of 'prithvi models list', folder or hub id; or a program."),
    ],
    scene: Annotated[
        list[str], typer.Argument(help="Rasters, folders of single bands, STAC items or addresses, each a scene.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write into; NAME.zarr writes one map as a Zarr store.")
    ],
    together: Annotated[
        bool, typer.Option("--together", help="Treat all inputs as one scene: its bands, or its dates.")
    ] = False,
    bands: shared.Bands = None,
    accept: shared.Accept = None,
    *,
    opening: dict[str, Any],
    bbox: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(help="West south east north in degrees (179 -17 -179 -16 across the date line): map this part."),
    ] = None,
    aoi: Annotated[Path | None, typer.Option(help="Vector file with polygons: map what lies in them.")] = None,
    clouds: shared.Clouds = None,
    clouds_are: shared.CloudsAre = None,
    polygons: Annotated[
        str, typer.Option(help="Form of the polygons beside the map: parquet, gpkg or none.")
    ] = "parquet",
    min_area: Annotated[float, typer.Option(help="Leave smaller polygons out, in m2.", min=0)] = 0.0,
    simplify: Annotated[float, typer.Option(help="How far their outlines may be off, in m.", min=0)] = 0.0,
    zones: Annotated[
        Path | None, typer.Option(help="Vector file: areas of each class in each of its features.")
    ] = None,
    confidence: Annotated[bool, typer.Option("--confidence", help="Write the chosen class's probability.")] = False,
    disagreement: Annotated[
        bool, typer.Option("--disagreement", help="Write how far overlapping windows differ, a sign without labels.")
    ] = False,
    probabilities: Annotated[
        str | None, typer.Option(help="Write those of every class, as uint8 (0 to 250) or float32.")
    ] = None,
    stride: Annotated[int | None, typer.Option("--stride", help="Pixels between windows.", min=1)] = None,
    overlap: Annotated[
        float | None,
        typer.Option(help="The same as the share of a window that neighbours have in common; a quarter by default."),
    ] = None,
    batch_size: shared.BatchSize = None,
    device: shared.Device = None,
    compile: Annotated[bool, typer.Option("--compile", help="Compile the model; pays on long runs.")] = False,
    engine: Annotated[
        str, typer.Option(help="What runs the model: torch, openvino (quicker on a CPU; prithvi[openvino]) or auto.")
    ] = "torch",
    precision: Annotated[
        str | None,
        typer.Option(help="float32, bfloat16 or auto (checked on the scene); float32 on a CPU, bfloat16 on a GPU."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the rows that an interrupted run has finished.")
    ] = False,
    zarr_format: shared.ZarrFormat = 2,
    scheduler: Annotated[str | None, typer.Option(help="Dask scheduler (tcp://host:8786) to map many scenes.")] = None,
    retries: Annotated[int, typer.Option(help="Retries per failed scene (with several scenes).", min=0)] = 1,
    trust: Annotated[
        bool, typer.Option("--trust", help="Open an exported program that is not your own; torch may run code in it.")
    ] = False,
    report: shared.Report = None,
    as_json: shared.Json = False,
) -> None:
    """Maps scenes: for each a Cloud-Optimized GeoTIFF named after it, polygons, a STAC item and a QGIS style.

    -o NAME.zarr writes the map of one scene as a Zarr store instead, with nothing beside it.
    """
    import json

    from prithvi.errors import ConfigError, counted
    from prithvi.files import refuse_unwritable
    from prithvi.modelio.model_files import Trusted, check_engine, found_here, requirements_of
    from prithvi.products.jobs import jobs_of
    from prithvi.products.products import Products
    from prithvi.scenes import Area, open_scene

    if bbox is not None and aoi is not None:
        raise ConfigError("--bbox and --aoi are two areas: give one.")
    check_engine(engine, precision)
    if scheduler is not None:
        if found_here(model) == Path(model):  # and not the package's own, beside whose name a folder may lie
            (model,) = shared.absolute([model])
        scene, clouds = shared.absolute(scene), shared.absolute(clouds or [])
        output, zones = output.absolute(), zones and zones.absolute()
    # Everything that can be refused by the options, the scene's header and what the model's files state is refused
    # here: importing torch and reading weights takes seconds.
    area = Area.box(*bbox) if bbox is not None else Area.from_file(aoi) if aoi is not None else None
    beside = output.suffix.lower() != ".zarr"
    jobs = jobs_of(scene, output, together)
    masked = None
    if clouds:
        from prithvi.mapping.mask_sources import Clouds

        masked = Clouds(tuple(clouds), clouds_are)
    if len(jobs) > 1 and masked is not None and not masked.auto:
        raise ConfigError(f"--clouds names the masks of one scene, and these are {len(jobs)}: say --clouds auto.")
    if masked is None and clouds_are is not None:
        raise ConfigError("--clouds-are says what masks hold, and there are none: give them by --clouds.")
    if not beside:
        if len(jobs) > 1 or scheduler is not None or report is not None:
            raise ConfigError(f"{output} is one Zarr store: map one scene into it, without --scheduler and --report.")
        jobs = [replace(jobs[0], path=str(output))]
    refuse_unwritable(output if beside else output.parent)
    form = None if polygons == "none" or not beside else polygons
    products = Products(confidence, probabilities, form, min_area, simplify, zones, beside, beside, disagreement)
    needs, one = requirements_of(model), None
    if needs is not None:
        products = replace(products, polygons=form if needs.classes else None)
        opening["bands"] = shared.band_numbers(bands, needs.contract)
        if len(jobs) == 1:
            one = shared.open_and_check(jobs[0].sources, opening, needs.contract, accept, needs)
            if masked is not None:
                masked.refuse(jobs[0].sources, one, opening)
        _refuse(needs, products, stride, overlap, one, area)

    from prithvi.cli.progress import bar, keep_windows
    from prithvi.mapping.batch import map_file, map_files, opened
    from prithvi.mapping.engine_choice import Asked

    Asked(engine, precision, device, compile)  # refused before weights are read
    model = Trusted(model) if trust else model
    fitted = opened(model)
    opening.setdefault("bands", shared.band_numbers(bands, fitted.contract))
    products = replace(products, polygons=form if fitted.classes else None)
    options: dict[str, Any] = {
        "products": products, "area": area, "stride": stride, "overlap": overlap, "batch_size": batch_size,
        "device": device, "compile": compile, "engine": engine, "precision": precision, "accept": tuple(accept or ()),
        "resume": resume, "zarr_format": zarr_format, "command": shared.typed(),
    }  # fmt: skip
    keep_windows()
    alone = len(jobs) == 1 and scheduler is None
    try:
        with bar(jobs[0].name if alone else counted(len(jobs), "scene")) as progress:
            if alone:
                outcomes = [map_file(model, jobs[0], opening, {**options, "progress": progress}, one, masked)]
            else:
                many: dict[str, Any] = {
                    "scheduler": scheduler,
                    "retries": retries,
                    "progress": progress,
                    "clouds": masked,
                }
                outcomes = map_files(model, jobs, output, opening, options, **many)
    except KeyboardInterrupt:
        typer.echo("Stopped: --resume goes on from what is finished.", err=True)
        raise typer.Exit(130) from None
    done = [(outcome.job, outcome.result) for outcome in outcomes if outcome.result is not None]
    failed = [outcome for outcome in outcomes if outcome.result is None]
    if report is not None and done:
        from prithvi.report import view

        # Each map lies over what it was made of.
        scenes = {made.path: open_scene(shared.source_of(job.sources), **opening) for job, made in done}
        view(list(scenes), report, scenes=scenes)
        typer.echo(f"To look at: {report}", err=True)
    if as_json:
        typer.echo(json.dumps([_plain(outcome) for outcome in outcomes], indent=2))
    else:
        for _, made in done if len(jobs) <= 20 else []:
            _tell_map(made, zones)
        if len(jobs) > 1:
            counts = f"{counted(len(jobs), 'scene')}: {len(done):,} done, {len(failed):,} failed"
            typer.echo(f"{counts} ({Path(jobs[0].path).parent}/manifest.parquet names them)")
        for outcome in failed[:5]:
            typer.echo(f"{outcome.job.name} failed: {outcome.error}", err=True)
    if failed:
        raise typer.Exit(1)


def _refuse(
    needs: Requirements,
    products: Products,
    stride: int | None,
    overlap: float | None,
    scene: xr.DataArray | None,
    area: Area | None,
) -> None:
    """Refuses what no model of these requirements can make of a scene, or where that is None of any.

    Raises:
        ConfigError, DatasetError, SceneError: see `map_scene`.

    """
    from prithvi import windows
    from prithvi.contract import check_mappable

    check_mappable(needs.task)
    products.check(needs, scene)
    size = (needs.window, needs.window) if scene is None else (scene.sizes["y"], scene.sizes["x"])
    plan = windows.plan(*size, needs.window, windows.stride_of(needs.window, stride, overlap, products.disagreement))
    if scene is None:
        return
    if area is not None:
        plan = plan.over(*area.window(scene))[0]
    if products.disagreement:
        plan.require_overlap()


def _tell_map(result: MapResult, zones: Path | None) -> None:
    whole = sum(result.pixels.values())
    shares = ", ".join(f"{name} {count / max(whole, 1):.1%}" for name, count in result.pixels.items())
    typer.echo(f"{result.path}: {shares}; {result.without_data:,} pixels without data")
    beside = [file.name for file in result.files if file != result.path and not file.name.endswith(".aux.xml")]
    if beside:
        typer.echo(f"  beside it: {', '.join(beside)}")
    for note in result.notes:
        typer.echo(f"Note: {note}", err=True)
    if zones is not None:
        typer.echo((result.path.parent / f"{result.path.stem}_zones.csv").read_text(encoding="utf-8"), nl=False)


def _plain(outcome: Outcome) -> dict[str, Any]:
    from prithvi.scenes.paths import shown

    result = outcome.result
    return {
        "scene": list(map(shown, outcome.job.sources)),
        "map": str(outcome.job.path) if result is not None else None,
        "error": outcome.error or None,
        "pixels": result.pixels if result is not None else None,
        "without_data": result.without_data if result is not None else None,
        "files": [str(file) for file in result.files] if result is not None else [],
        "notes": list(result.notes) if result is not None else [],
    }
