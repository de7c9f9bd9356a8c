"""`prithvi export`: a fitted model as one file that torch runs alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MOST = 1e-4
"""Scores of a program may be this far from those of the model."""


def export_verb(
    model: Annotated[str, typer.Argument(help="Folder of a fitted model.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: NAME.pt2.")],
    check: Annotated[bool, typer.Option(help="Compare the program's scores with the model's.")] = True,
) -> None:
    """Writes a fitted model as a torch.export program, which prithvi map and plain torch run."""
    import torch

    from prithvi.errors import ModelError
    from prithvi.modelio import load
    from prithvi.modelio.predictor import Predictor
    from prithvi.modelio.program import export, largest_difference, open_program
    from prithvi.models.zoo import VARIANTS

    fitted = None if model in VARIANTS else load(model)
    if not isinstance(fitted, Predictor):
        raise ModelError(f"{model} is no fine-tuned model, and only those are exported (prithvi fit, prithvi demo).")
    path = export(fitted, output)
    facts = f"{path}: {path.stat().st_size / 1e6:.1f} MB, windows of {fitted.window} pixels, torch {torch.__version__}"
    if not check:
        typer.echo(facts)
        return
    difference = largest_difference(fitted.mappable(), open_program(path))
    if difference > MOST:
        raise ModelError(f"{path} gives other scores than {model}, by up to {difference:.2g}: do not use it.")
    typer.echo(f"{facts}; scores differ by {difference:.1e} at most")
