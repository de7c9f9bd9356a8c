"""`prithvi serve`: models as processes that others ask for maps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve_verb(
    model: Annotated[
        list[str] | None, typer.Argument(help="Folders or names of models; NAME=FOLDER gives one another name.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML with these settings; options count more.")
    ] = None,
    folder: Annotated[list[Path] | None, typer.Option("--folder", help="Scenes may be read from this folder.")] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="And from this host: NAME, *.NAME, or * for any public one."),
    ] = None,
    allow_private: Annotated[
        list[str] | None, typer.Option("--allow-private", help="And from this one, which may have a private address.")
    ] = None,
    state: Annotated[Path | None, typer.Option(help="Folder of jobs and results; default service.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; default 5000.")] = None,
    url: Annotated[str | None, typer.Option(help="Where clients find it, if not there.")] = None,
    max_pixels: Annotated[
        int | None, typer.Option(help="Most pixels of a scene or box, times dates; default 150,000,000.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Jobs at one time, each with a model in memory; default 1.")
    ] = None,
    queue: Annotated[int | None, typer.Option(help="Jobs that may wait beside them; default 10.")] = None,
    idle: Annotated[float | None, typer.Option(help="Seconds until an idle worker gives its memory back; 300.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Most seconds of a job; default 3600.")] = None,
    keep: Annotated[float | None, typer.Option(help="Days that results are kept; default 7.")] = None,
    engine: Annotated[str | None, typer.Option(help="What runs the models: torch, openvino or auto.")] = None,
    device: Annotated[str | None, typer.Option(help="Torch device; a GPU where there is one.")] = None,
    cwl: Annotated[
        Path | None, typer.Option(help="Serve nothing, and write the CWL application package of the one model.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="Container image that the package asks for.")] = None,
) -> None:
    """Serves models by OGC API - Processes: maps, embeddings and filled series on request, one process a model."""
    from prithvi.service.settings import settings_of

    given = {
        "folders": folder, "hosts": allow_host, "private_hosts": allow_private, "state": state, "host": host,
        "port": port, "url": url, "max_pixels": max_pixels, "workers": workers, "queue": queue, "idle": idle,
        "timeout": timeout, "keep": keep, "engine": engine, "device": device,
    }  # fmt: skip
    settings = settings_of(model or [], config, given)
    if cwl is not None:
        from prithvi.service.application_package import write_package

        typer.echo(f"Written: {write_package(settings.models, cwl, image)}")
        return

    from prithvi.service.app import run

    def ready() -> None:
        typer.echo(f"{settings.address} serves {', '.join(model.name for model in settings.models)}", err=True)

    try:
        run(settings, ready)
    except KeyboardInterrupt:
        typer.echo("Stopped: asynchronous jobs that waited or ran go on when the service is started again.", err=True)
