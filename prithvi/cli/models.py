"""`prithvi models`: which models there are."""

from __future__ import annotations

import json
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Models by name: list, show.")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """Every model that can be built, and whether weights of it are published."""
    from prithvi.models.zoo import VARIANTS

    if as_json:
        rows = {name: {"summary": v.summary, "hub_id": v.hub_id, **v.config.to_dict()} for name, v in VARIANTS.items()}
        typer.echo(json.dumps(rows, indent=2))
        return
    for name, variant in VARIANTS.items():
        typer.echo(f"{name:22} {variant.summary}; weights: {variant.hub_id or 'none published'}")


@app.command("show")
def show(name: str, as_json: Json = False) -> None:
    """The shape of one model, its parameters and what it expects of its input."""
    import torch

    from prithvi.models import PrithviMAE
    from prithvi.models.zoo import variant

    found = variant(name)
    with torch.device("meta"):
        model = PrithviMAE(found.config)
    count = {
        "encoder_parameters": sum(p.numel() for p in model.encoder.parameters()),
        "decoder_parameters": sum(p.numel() for p in model.decoder.parameters()),
    }
    plain = {**found.config.to_dict(), **count, "hub_id": found.hub_id, "filename": found.filename}
    if as_json:
        typer.echo(json.dumps(plain, indent=2))
        return
    typer.echo(f"{name}: {found.summary}")
    for key, value in plain.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        typer.echo(f"  {key:20} {text if text not in (None, '') else '-'}")
