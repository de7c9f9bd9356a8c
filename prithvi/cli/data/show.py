"""`prithvi data show`: what a store or a public dataset holds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from prithvi.cli.options import Json


def show_verb(
    name: Annotated[str, typer.Argument(help="A store, or the name of a dataset; left out: all names.")] = "",
    as_json: Json = False,
) -> None:
    """Bands, dates, classes, parts and statistics of a store or of a public dataset."""
    from prithvi.catalog import dataset_names
    from prithvi.errors import DatasetError, nearest

    names = dataset_names()
    if not name:
        typer.echo(json.dumps(names) if as_json else "\n".join(names))
        return
    if not Path(name).exists() and name not in names:
        raise DatasetError(f"there is no store {name}, and no dataset of that name: {nearest(name, names)}")
    rows = describe_store(name) if Path(name).exists() else describe(name)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for key, value in rows.items():
        for number, line in enumerate(value if isinstance(value, list) else [value]):
            typer.echo(f"{key if number == 0 else '':14} {line}")


def describe(name: str) -> dict[str, Any]:
    """A public dataset in words, by heading; lists have a line an entry.

    Raises:
        DatasetError: there is no such dataset.

    """
    from prithvi.catalog.stac_catalog import collection, dataset

    plain, layout = collection(name), dataset(name)
    contract, hub, source = layout.contract, plain.get("prithvi:hub"), plain.get("prithvi:source")
    orders = {
        "band-major": "band-major: one of them for all dates, then the next",
        "time-major": "time-major: all of them for one date, then the next",
    }
    nodata = f", nodata {', '.join(f'{value:g}' for value in layout.nodata)}" if layout.nodata else ""
    rows: dict[str, Any] = {
        "dataset": f"{name}: {plain['title']}",
        "what": plain["description"],
        "files": [layout.image, *([layout.label] if layout.label else [])],
        "bands": ", ".join(layout.bands),
        "order": f"{layout.frames} dates, {orders[layout.order or '']}" if layout.frames > 1 else "one date",
        "values": f"reflectance = value x {layout.gain:g}, {contract.level}, {contract.resolution:g} m{nodata}",
        "statistics": _statistics(contract.bands, contract.mean, contract.std, f"  (reflectance x {contract.scale:g})"),
        "parts": [f"{part}: {text}" for part, text in plain["prithvi:layout"]["split_notes"].items()],
        "licence": plain["license"],
        "cite": " doi:".join(plain[key] for key in ("sci:citation", "sci:doi") if key in plain) or "-",
        "hub": "-",
    }
    if hub:
        sums = hub.get("sha256", {})
        files = [f"{file}  sha256 {sums[file]}" if file in sums else file for file in hub["files"]]
        rows["hub"] = [f"{hub['repo_id']} ({hub['repo_type']}, revision {hub['revision']})", *files]
    if source:
        rows["source"] = [source["url"], *source["files"]]
    if layout.classes:
        rows["classes"] = [f"{entry.value:3} {entry.name} #{entry.color}" for entry in layout.classes]
        rows["classes"] += [f"{value:3} says nothing" for value in layout.ignore]
    if layout.dates:
        rows["dates"] = f"read from {layout.dates.get('table', 'the file names')}"
    return rows


def describe_store(path: str) -> dict[str, Any]:
    """A store in words, likewise.

    Raises:
        DatasetError: it is no store, or unfinished.

    """
    from prithvi.chips import ChipStore

    store = ChipStore(path)
    spec, found, samples = store.spec, store.attributes["statistics"], store.samples
    pixels = f"{len(spec.bands)} bands x {spec.height} x {spec.width} pixels"
    times = sorted(time for row in samples["times"] for time in row if time is not None)
    filled = int(sum(map(sum, samples["filled"])))
    size = sum(file.stat().st_size for file in store.path.rglob("*") if file.is_file())
    labelled = f", {samples['labelled'].mean():.0%} of the pixels labelled" if spec.classes else ""
    rows: dict[str, Any] = {
        "store": str(store.path),
        "chips": f"{len(store):,} of {spec.frames} dates x {pixels}",
        "size": f"{size / 1e6:,.1f} MB ({spec.codec}, {spec.shard} chips a file)",
        "parts": [f"{part or '(none)'}: {count:,}" for part, count in store.attributes["samples"].items()],
        "bands": ", ".join(spec.bands),
        "values": f"reflectance x {1 / spec.gain:g}, {spec.level}, nodata -9999{', with Fmask' if spec.fmask else ''}",
        "dates": f"{times[0]:%Y-%m-%d} to {times[-1]:%Y-%m-%d}" if times else "unknown",
        "tiles": ", ".join(sorted(set(samples["tile"]) - {""})) or "-",
        "filled": f"{filled:,} pixels took the value of their nearest neighbour{labelled}",
        "statistics": _statistics(spec.bands, found["mean"], found["std"]),
        "of": f"the {found['of']} part" if found["of"] != "all" else "all chips",
    }
    if spec.classes:
        whole = max(1, sum(found["classes"]))
        rows["classes"] = [
            f"{entry.value:3} {entry.name} #{entry.color} {count / whole:.1%}"
            for entry, count in zip(spec.classes, found["classes"], strict=True)
        ]
    return rows


def _statistics(
    bands: Iterable[str], means: Iterable[float | None], stds: Iterable[float | None], unit: str = ""
) -> list[str]:
    """A line a band; nan where a store has null, for a band without any pixel."""
    rows = zip(bands, means, stds, strict=True)
    known = [(band, *(float("nan") if value is None else value for value in moments)) for band, *moments in rows]
    return [f"{band:12} mean {mean:9.2f}  std {std:9.2f}{unit}" for band, mean, std in known]
