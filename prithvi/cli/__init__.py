"""The command line. A verb is a small file; what it needs is imported when it runs."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer

from prithvi import __version__
from prithvi.cli import (
    area,
    compare,
    composite,
    data,
    demo,
    distil,
    doctor,
    embed,
    export,
    fill,
    fit,
    map,
    mask,
    models,
    serve,
    view,
)
from prithvi.cli.options import TRUST
from prithvi.errors import PrithviError, without_secrets
from prithvi.hosts import ALLOW, allowed_private

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="From Harmonized Landsat Sentinel-2 granules to maps, with the Prithvi foundation models.",
)
_PACKAGE = Path(__file__).parents[1]
_PASS_ON: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
_MORE: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True}

app.command("demo")(demo.demo)
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
app.command("fit", context_settings=_PASS_ON, add_help_option=False)(fit.fit)
app.command("test", context_settings=_PASS_ON, add_help_option=False)(fit.test)
app.command("distil", context_settings=_MORE)(distil.distil)
app.command("compare", context_settings=_MORE)(compare.compare)
app.command("map")(map.map_verb)
app.command("mask")(mask.mask_verb)
app.command("embed")(embed.embed_verb)
app.command("fill")(fill.fill_verb)
app.command("composite")(composite.composite_verb)
app.command("area")(area.area)
app.command("view")(view.view_verb)
app.command("serve")(serve.serve_verb)
app.command("export")(export.export_verb)
app.command("doctor")(doctor.doctor)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"prithvi {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    allow_private: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-private",
            help="Host of this network to which catalogs of others may point: NAME, *.NAME or *; file: for files.",
        ),
    ] = None,
    trust_classes: Annotated[
        list[str] | None,
        typer.Option("--trust-classes", help="Package whose classes configurations may name, such as your own."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """`debug` is read by `main`, which has to know it before any verb fails."""
    if allow_private:
        os.environ[ALLOW] = ",".join([*allowed_private(), *allow_private])
    if trust_classes:
        os.environ[TRUST] = ",".join(filter(None, [os.environ.get(TRUST), *trust_classes]))


def main() -> None:
    """Runs the command line: a user's mistake is one sentence and status 2."""
    debug = "--debug" in sys.argv
    # OpenMP, which torch brings along, reads it when it is loaded. Its threads else wait for each other in busy loops:
    # beside other work on the machine a training step on two threads takes several times as long as on one.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if not debug:
        warnings.showwarning = partial(_say_warning, set())
    try:
        with _few_collections():
            app()
    except PrithviError as error:
        if debug:
            sys.excepthook = _say_traceback
            raise
        print(f"Error: {_sentence(error)}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


@contextmanager
def _few_collections() -> Iterator[None]:
    """Spares most of the garbage collector's work, a quarter of a small map's CPU time.

    Imports make a million objects that stay. By default they are looked through after every 700 new ones, and all once
    more when the process ends, which gives its memory back anyway.
    """
    before = gc.get_threshold()
    gc.set_threshold(50_000, *before[1:])
    atexit.register(_end_without_collection)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _end_without_collection() -> None:
    if "triton" not in sys.modules:  # which prints what is not collected at the end as leaks
        gc.freeze()


def _say_traceback(kind: type[BaseException], error: BaseException, place: TracebackType | None) -> None:
    """The traceback, also of errors of libraries, without what may be secret in an address."""
    print(without_secrets("".join(traceback.format_exception(kind, error, place))), file=sys.stderr, end="")  # noqa: T201


def _sentence(error: PrithviError) -> str:
    """What the error says; one from a loading process comes wrapped in that process's traceback."""
    text = str(error)
    if "\nOriginal Traceback" not in text:
        return text
    name = type(error).__name__
    return text.rstrip().rpartition(f"{name}: ")[2].partition("\n")[0]


def _say_warning(said: set[str], message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    # Ours are for the user; those of libraries are for developers, who have --debug. Where several steps of a verb give
    # the same, one is enough.
    ours = category is UserWarning and Path(str(place[0] if place else "")).is_relative_to(_PACKAGE)
    if ours and str(message) not in said:
        said.add(str(message))
        print(f"Note: {without_secrets(str(message))}", file=sys.stderr)  # noqa: T201
