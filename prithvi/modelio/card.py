"""A model's card (README.md): for people, with the metadata by which the hub finds it. Only what is known is in it."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from prithvi.errors import ConfigError
from prithvi.files import read_json, read_rows
from prithvi.modelio.predictor import Predictor
from prithvi.models import PrithviMAE
from prithvi.models.heads import has_trait
from prithvi.models.zoo import ENCODERS, VARIANTS

_PIPELINES = {"segmentation": "image-segmentation", "classification": "image-classification"}
_TAGS = ("earth-observation", "remote-sensing", "prithvi")
_FRONT = re.compile(r"\A---\n(.*?)\n---\n", flags=re.S)

Figures = Mapping[str, Mapping[str, float]]
"""A figure (such as test/miou) to its `mean`, its `std` where there are several runs, and their number `runs`."""


def fitted_card(fitted: Predictor) -> str:
    """The card of a fine-tuned model."""
    contract, made = fitted.contract, fitted.provenance
    base = {**VARIANTS, **ENCODERS}.get(str(made.get("init")))
    metadata = {"library_name": "prithvi", "tags": [*_TAGS, fitted.task]}
    if fitted.task in _PIPELINES:
        metadata["pipeline_tag"] = _PIPELINES[fitted.task]
    if base is not None and base.hub_id is not None:
        metadata["base_model"] = base.hub_id
    subject = str(fitted.quantity) if fitted.quantity is not None else ", ".join(c.name for c in fitted.classes)
    parts = [
        f"# {fitted.name}, {'fitted' if has_trait(fitted.head, 'fitted') else 'fine-tuned'}: {subject}",
        f"Input: {', '.join(contract.bands)}; reflectance x {contract.scale:g}"
        + (f", {contract.level}" if contract.level else "")
        + (f", {contract.resolution:g} m" if contract.resolution else "")
        + f"; {fitted.frames} date(s); windows of {fitted.window} pixels"
        + ("; dates and places beside them." if fitted.coordinates else "."),
        "Use: `prithvi map THIS_FOLDER SCENE -o DIR`, or `prithvi.load(THIS_FOLDER)` in Python; the hub id "
        "(owner/name) stands for the folder everywhere.",
    ]
    if fitted.classes:
        rows = [(entry.value, entry.name, entry.color or "-") for entry in fitted.classes]
        parts.append(_table("| value | class | colour |", rows))
        parts.append(f"Confidence: the softmax of the scores divided by {fitted.temperature:g}.")
    parts += ["## How it was made", _record(made), "## Results", _results(figures_of(made))]
    parts += ["## Limits", _limits(fitted), "## Licence"]
    parts.append(f"Of the weights that it began with: {base.licence}." if base and base.licence else "Not stated.")
    return with_metadata("\n\n".join(parts) + "\n", metadata)


def pretrained_card(model: PrithviMAE, training: Mapping[str, Any], more: str = "") -> str:
    """The card of a masked autoencoder; `training` is the record of how it was made, `more` text for its end."""
    config, contract = model.config, model.contract
    million = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    metadata = {"library_name": "prithvi", "tags": [*_TAGS, "masked-autoencoder"]}
    parts = [
        f"# {config.architecture}",
        f"A masked autoencoder of {million:.2f} million parameters: patches of "
        f"{' x '.join(map(str, config.patch_size))} (time, y, x), encoder {config.embed_dim} wide and {config.depth} "
        f"deep, decoder {config.decoder_embed_dim} wide and {config.decoder_depth} deep.",
        f"Input: {', '.join(contract.bands)}; reflectance x {contract.scale:g}"
        + (f", clipped to {contract.clip[0]:g} .. {contract.clip[1]:g}" if contract.clip else "")
        + f", {contract.level or 'surface or top-of-atmosphere'}; squares of {config.img_size[0]} pixels.",
        f'Use: `prithvi.load("{config.architecture}")` for the shipped weights, `prithvi.load(THIS_FOLDER)` for these.',
        _record(training),
        more,
    ]
    return with_metadata("\n\n".join(parts), {**metadata, "pipeline_tag": "image-feature-extraction"})


def with_metadata(card: str, more: Mapping[str, Any]) -> str:
    """A card with entries of its YAML metadata set, all else in it as it was."""
    found = _FRONT.match(card)
    try:
        plain = yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError as error:
        raise ConfigError(f"the card's metadata (between its --- lines) is not YAML: {error}.") from error
    if not isinstance(plain, dict):
        raise ConfigError("the card's metadata (between its --- lines) must be a table.")
    front = yaml.safe_dump({**plain, **more}, sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n{card[found.end() :] if found else card}"


def with_results(card: str, figures: Figures) -> str:
    """A card whose section on results holds these figures."""
    return _with_section(card, "Results", _results(figures))


def with_index(card: str, name: str, figures: Figures, dataset: str) -> str:
    """A card with figures in its metadata (`model-index`), where the hub's tables of results look.

    Args:
        card: the card.
        name: of the model.
        figures: see `Figures`.
        dataset: what they were measured on.

    """
    found = _FRONT.match(card)
    pipeline = (yaml.safe_load(found[1]) or {}).get("pipeline_tag") if found else None
    metrics = [{"type": key, "value": round(value["mean"], 4), "name": key} for key, value in figures.items()]
    result = {"task": {"type": pipeline or "other"}, "dataset": {"type": dataset, "name": dataset}, "metrics": metrics}
    return with_metadata(card, {"model-index": [{"name": name, "results": [result]}]})


def with_licence(card: str, licence: str) -> str:
    """A card that states the licence, by the hub's name for it (apache-2.0)."""
    return _with_section(with_metadata(card, {"license": licence}), "Licence", f"{licence}.")


def with_evaluation(
    card: str, places: Path | Sequence[Mapping[str, Any]], truth: str, confusion: Path | Sequence[Mapping[str, Any]]
) -> str:
    """A card that says how good a model is by place, how that truth was chosen, and what the model confuses.

    Args:
        card: the card.
        places: a row for each place, as a CSV file or as mappings: what is known of it in words, and its figures.
        truth: how the truth was chosen and what that leaves out, in sentences.
        confusion: a row for each true class, likewise: its name, and the number of its pixels that the model called
            each class, by the class's name.

    Raises:
        ConfigError: no rows, rows of different columns, or a confusion without numbers.

    """
    rows = _rows(places)
    means = [_mean_of([row[name] for row in rows]) for name in rows[0]]
    means[0] = f"mean of {len(rows)} places"
    by_place = _table(
        f"| {' | '.join(rows[0])} |", [*([_short(value) for value in row.values()] for row in rows), means]
    )
    for title, text in (
        ("How good it is by place", by_place),
        ("How the truth was chosen", truth),
        ("What it confuses", _confusion(_rows(confusion))),
    ):
        card = _with_section(card, title, text, before="Limits")
    return card


def figures_of(record: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The figures in a record of how a model was made: those with a / in their name, of one run."""
    return {
        key: {"mean": float(value), "runs": 1}
        for key, value in record.items()
        if "/" in key and isinstance(value, int | float) and math.isfinite(value)
    }


def read_figures(files: Sequence[Path]) -> dict[str, dict[str, float]]:
    """Figures of one file or, over several runs, their mean and standard deviation; without those that a run lacks.

    Args:
        files: tables of figures as JSON, as `prithvi test` writes them (metrics.json), or results of `prithvi compare`
            (result.json).

    Raises:
        ConfigError: a file that holds none, or files that hold different ones.

    """
    runs: list[dict[str, float]] = []
    for file in files:
        plain = read_json(file)
        table = plain.get("figures", plain)
        kept = {key: value for key, value in table.items() if value is None or isinstance(value, int | float)}
        found = {key: math.nan if value is None else float(value) for key, value in kept.items()}
        if not any(map(math.isfinite, found.values())):
            raise ConfigError(f"{file} holds no figures: give what prithvi test or prithvi compare wrote.")
        if runs and set(found) != set(runs[0]):
            raise ConfigError(f"{file} holds other figures than {files[0]}: give runs of one experiment.")
        runs.append(found)
    figures = {}
    for key in runs[0] if runs else {}:
        values = [run[key] for run in runs]
        if not all(map(math.isfinite, values)):  # such as the IoU of a class that a run's test split has not
            continue
        spread = {"std": statistics.stdev(values)} if len(values) > 1 else {}
        figures[key] = {"mean": statistics.fmean(values), **spread, "runs": len(values)}
    return figures


def _results(figures: Figures) -> str:
    if not figures:
        return "None were recorded."
    rows = []
    for name, value in figures.items():
        spread = f" ± {value['std']:.3f}" if "std" in value else ""
        rows.append((name, f"{value['mean']:.4g}{spread}", f"{value['runs']:g}"))
    parts = [_table("| figure | value | runs |", rows)]
    if any(name.startswith("val/") for name in figures):
        parts.append("Figures of val/ chose the checkpoint, so they flatter it.")
    if any("std" in value for value in figures.values()):
        parts.append("± is the standard deviation over the runs.")
    return "\n\n".join(parts)


def _limits(fitted: Predictor) -> str:
    reflectance = {"SR": "surface reflectance", "TOA": "top-of-atmosphere reflectance"}
    text = (
        f"It is made for {reflectance.get(fitted.contract.level or '', 'the input above')}; other sensors, seasons, "
        "places and resolutions than those of its data were not tried unless the results say so."
    )
    if not fitted.classes:
        return text
    if fitted.temperature == 1:
        return f"{text} Its confidence is not calibrated."
    return f"{text} The confidence was fitted on validation data and says nothing of places that are unlike them."


def _record(record: Mapping[str, Any]) -> str:
    return _table("| how it was made | |", [(key, _in_cell(value)) for key, value in record.items()])


def _table(head: str, rows: Sequence[Sequence[Any]]) -> str:
    rule = "|" + "---|" * (head.count("|") - 1)
    return "\n".join([head, rule, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def _in_cell(value: Any) -> str:
    if isinstance(value, list):
        return "<br>".join(_in_cell(entry) for entry in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_in_cell(entry)}" for key, entry in value.items())
    return str(value)


def _rows(table: Path | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A table as rows; words that are numbers become numbers."""
    if isinstance(table, Path):
        _, rows = read_rows(table)
    else:
        rows = [dict(row) for row in table]
    if not rows or any(list(row) != list(rows[0]) or None in row.values() for row in rows):
        raise ConfigError(
            f"a table of the card has {len(rows)} rows: it needs one at least, and the same columns in all."
        )
    return [{name: _number(value) for name, value in row.items()} for row in rows]


def _number(value: Any) -> Any:
    try:
        return float(value)
    except ValueError:
        return value


def _mean_of(values: Sequence[Any]) -> str:
    """The mean of a column of figures; empty of words, and of what was not measured everywhere."""
    return _short(statistics.fmean(values)) if all(isinstance(value, float) for value in values) else ""


def _short(value: Any) -> str:
    return "-" if value != value else f"{value:.4g}" if isinstance(value, float) else str(value)


def _confusion(rows: Sequence[Mapping[str, Any]]) -> str:
    """Shares of each true class, and the largest of those that are wrong."""
    (first, *called), found, wrong = rows[0], [], []
    for row in rows:
        counts = [row[name] for name in called]
        if not all(isinstance(count, float) and count >= 0 for count in counts):
            raise ConfigError(f"the confusion of {row[first]} must be numbers of pixels; found {counts}.")
        total = sum(counts)
        shares = [count / total if total else math.nan for count in counts]
        found.append([row[first], *(f"{share:.1%}" if total else "-" for share in shares), f"{total:,.0f}"])
        wrong += [
            (share, f"{share:.1%} of {row[first]} is called {name}")
            for name, share in zip(called, shares, strict=True)
            if name != row[first] and share > 0
        ]
    worst = "; ".join(text for _, text in sorted(wrong, reverse=True)[:3])
    table = _table(f"| truly | {' | '.join(f'called {name}' for name in called)} | pixels |", found)
    return f"{table}\n\n{f'Most of all: {worst}.' if worst else 'No pixel was called another class.'}"


def _with_section(card: str, title: str, text: str, before: str = "") -> str:
    """A card with one section (## TITLE) replaced, or put before another one, or at its end."""
    section, whole = re.compile(rf"^## {title}\n.*?(?=^## |\Z)", flags=re.S | re.M), f"## {title}\n\n{text}\n\n"
    if section.search(card):
        return section.sub(lambda _: whole, card).rstrip("\n") + "\n"
    if before and (found := re.search(rf"^## {before}\n", card, flags=re.M)):
        return f"{card[: found.start()]}{whole}{card[found.start() :]}"
    return f"{card.rstrip()}\n\n{whole}".rstrip("\n") + "\n"
