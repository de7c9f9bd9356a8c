"""`prithvi fit` and `prithvi test`: LightningCLI over a YAML file, with errors of one line."""

from __future__ import annotations

import typer


def fit(context: typer.Context) -> None:
    """Trains from a configuration: prithvi fit -c configs/flood.yaml --data.root DIR --model.lr 1e-4"""
    from prithvi.cli.settings import head_of, with_shipped

    if head_of(with_shipped(context.args)) == "auto":
        from prithvi.cli.auto_head import fit_best

        fit_best(context.args)
        return
    from prithvi.cli.lightning import run

    run("fit", context.args)


def test(context: typer.Context) -> None:
    """Measures a checkpoint or model folder: prithvi test -c configs/flood.yaml --data.root DIR --ckpt_path FILE"""
    from prithvi.cli.lightning import run

    run("test", context.args)
