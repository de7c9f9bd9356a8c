"""`prithvi data verify`: whether a store is as it was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from prithvi.cli.options import Json


def verify_verb(
    store: Annotated[Path, typer.Argument(help="The store.")],
    as_json: Json = False,
) -> None:
    """Compares every file of a store with its checksum; status 1 where one differs."""
    from prithvi.chips import verify
    from prithvi.cli.progress import Bar

    with Bar("verifying") as bar:
        report = verify(store, bar)
    if as_json:
        rows = [{"path": p.path, "what": p.what, "samples": p.samples} for p in report.problems]
        typer.echo(json.dumps({"files": report.files, "problems": rows, "unfinished": report.unfinished}, indent=2))
    else:
        for problem in report.problems:
            typer.echo(str(problem))
        found = f"{len(report.problems)} of {report.files:,} files are damaged" if report.problems else "intact"
        typer.echo(f"{store}: {found if report.problems else f'{report.files:,} files, all intact'}")
        if report.unfinished:
            typer.echo(f"{store}: {report.unfinished}")
    if report.problems:
        raise typer.Exit(1)
