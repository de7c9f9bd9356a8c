"""`prithvi fit` and `prithvi test`: LightningCLI over a YAML file, with errors of one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence


def fit(context: typer.Context) -> None:
    """Trains from a configuration: prithvi fit -c configs/flood.yaml --data.root DIR --model.lr 1e-4"""
    _run("fit", context.args)


def test(context: typer.Context) -> None:
    """Measures a checkpoint or model folder: prithvi test -c configs/flood.yaml --data.root DIR --ckpt_path FILE"""
    _run("test", context.args)


def _run(verb: str, arguments: Sequence[str]) -> None:
    from prithvi.cli.lightning import run

    run(verb, [argument for argument in arguments if argument != "--debug"])
