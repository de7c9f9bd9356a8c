"""`prithvi models`: which models there are, and to and from the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from prithvi.cli.options import Json

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Models: list, show, and from and to the Hugging Face hub."
)
Model = Annotated[str, typer.Argument(help="A name of 'prithvi models list', a folder, or OWNER/NAME[@REVISION].")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")]


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """Every model that can be built, where its weights are, if there are any, and whether they are here."""
    from prithvi.hub import is_cached
    from prithvi.modelio.model_files import shipped, task_models
    from prithvi.models.zoo import ENCODERS, VARIANTS

    known = {**VARIANTS, **ENCODERS}
    here = {name: bool(v.hub_id and v.filename and is_cached(v.hub_id, v.filename)) for name, v in known.items()}
    if as_json:
        facts = {name: {"summary": v.summary, "hub_id": v.hub_id, "cached": here[name]} for name, v in known.items()}
        rows = {name: {**facts[name], **v.config.to_dict()} for name, v in known.items()}
        for name, plain in task_models().items():
            _, told = _described(name, plain)
            rows[name] = {"summary": _summary(plain), "hub_id": None, "cached": False, **told}
        typer.echo(json.dumps(rows, indent=2))
        return
    for name, variant in known.items():
        unpublished = "in the package" if shipped(name) else "none published"
        where = f"{variant.hub_id or unpublished}{' (in the cache)' if here[name] else ''}"
        licence = f", {variant.licence}" if variant.licence else ""
        typer.echo(f"{name:22} {variant.summary}; weights: {where}{licence}")
    for name, plain in task_models().items():
        typer.echo(f"{name:22} {_summary(plain)}; weights: in the package")


@app.command("show")
def show(name: Model, as_json: Json = False) -> None:
    """The shape of one model, its parameters and what it expects of its input; of a fine-tuned one what it tells."""
    from prithvi.files import dumps
    from prithvi.modelio.loader import published
    from prithvi.modelio.model_files import found_here

    known = published(name)
    told = "/" in name or found_here(name) is not None
    title, plain = _variant(known.config.architecture if known else name) if known or not told else _folder(name)
    if as_json:
        typer.echo(dumps(plain, indent=2))
        return
    typer.echo(title)
    for key, value in plain.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        typer.echo(f"  {key:20} {text if text not in (None, '') else '-'}")


@app.command("pull")
def pull_model(name: Model, revision: Revision = None) -> None:
    """Fetches a model into the cache that it shares with huggingface_hub, verifies it, and says where it is."""
    from prithvi.modelio.exchange import pull

    typer.echo(pull(name, revision))


@app.command("push")
def push_model(
    folder: Annotated[Path, typer.Argument(help="Folder that prithvi fit wrote.")],
    repo: Annotated[str, typer.Argument(help="OWNER/NAME on the hub; made if it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch; made if it is not there.")] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(help="metrics.json of prithvi test or result.json of prithvi compare; one for each run."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="What the results were measured on.")] = None,
    licence: Annotated[str | None, typer.Option(help="Of the weights, as the hub names it: apache-2.0.")] = None,
) -> None:
    """Uploads a model folder: weights, config, figures, card and STAC item."""
    from prithvi.modelio.card import read_figures
    from prithvi.modelio.exchange import push

    measured: dict[str, Any] = {"figures": read_figures(results or []), "dataset": dataset}
    typer.echo(push(folder, repo, private=private, revision=revision, licence=licence, **measured))
    typer.echo(f"Next: prithvi map {repo}{f'@{revision}' if revision else ''} SCENE -o DIR")


def _variant(name: str) -> tuple[str, dict[str, Any]]:
    import torch

    from prithvi.models import PrithviMAE
    from prithvi.models.zoo import ENCODERS, build_encoder, variant

    found, parts = variant(name), dict[str, torch.nn.Module]()
    if name in ENCODERS:
        parts["encoder_parameters"] = build_encoder(found.config)
    else:
        with torch.device("meta"):
            model = PrithviMAE(found.config)
        parts |= {"encoder_parameters": model.encoder, "decoder_parameters": model.decoder}
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    plain = {**found.config.to_dict(), **count, "hub_id": found.hub_id, "filename": found.filename}
    return f"{name}: {found.summary}", plain


def _folder(source: str) -> tuple[str, dict[str, Any]]:
    from prithvi.modelio.model_files import config_of

    return _described(source, config_of(source))


def _summary(plain: Mapping[str, Any]) -> str:
    """What a fine-tuned model does in a line: as its record says, or its task and what it predicts."""
    told = plain.get("provenance", {}).get("summary")
    names = ", ".join(entry["name"] for entry in plain["classes"]) or (plain.get("quantity") or {}).get("name", "")
    return str(told or f"{plain['task']}: {names}")


def _described(source: str, config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    plain = dict(config)
    nested = [dict(plain.pop(key, None) or {}) for key in ("pretrained_cfg", "contract", "provenance", "training")]
    classes = [f"{entry['value']} {entry['name']} {entry['color']}".strip() for entry in plain.pop("classes", [])]
    for part in ({"classes": classes} if classes else {}, *nested):
        plain |= part
    return f"{source}: {plain.get('architecture')}, for {plain.get('task', 'pretraining')}", plain
