"""`prithvi data show`: what a store or a public dataset holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def show_verb(
    name: Annotated[str, typer.Argument(help="A store, or the name of a dataset; left out: all names.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bands, dates, classes, parts and statistics of a store or of a public dataset."""
    from prithvi.catalog import dataset_names
    from prithvi.catalog.describe import describe

    if not name:
        typer.echo(json.dumps(dataset_names()) if as_json else "\n".join(dataset_names()))
        return
    rows = describe(name) if name in dataset_names() and not Path(name).exists() else _store(name)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for key, value in rows.items():
        lines = value if isinstance(value, list) else [value]
        for number, line in enumerate(lines):
            typer.echo(f"{key if number == 0 else '':14} {line}")


def _store(name: str) -> dict[str, Any]:
    """What `describe` gives of a dataset, of a store."""
    from prithvi.catalog import dataset_names
    from prithvi.chips import ChipStore
    from prithvi.errors import DatasetError, nearest

    if not Path(name).exists():
        raise DatasetError(f"there is no store {name}, and no dataset of that name: {nearest(name, dataset_names())}")
    store = ChipStore(name)
    spec, found = store.spec, store.attributes["statistics"]
    samples = store.samples
    times = sorted(time for row in samples["times"] for time in row if time is not None)
    pixels = f"{len(spec.bands)} bands x {spec.height} x {spec.width} pixels"
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
        "statistics": [
            f"{band:12} mean {mean:9.2f}  std {std:9.2f}"
            for band, *moments in zip(spec.bands, found["mean"], found["std"], strict=True)
            for mean, std in [[float("nan") if value is None else value for value in moments]]
        ],
        "of": f"the {found['of']} part" if found["of"] != "all" else "all chips",
    }
    if spec.classes:
        whole = max(1, sum(found["classes"]))
        rows["classes"] = [
            f"{entry.value:3} {entry.name} #{entry.color} {count / whole:.1%}"
            for entry, count in zip(spec.classes, found["classes"], strict=True)
        ]
    return rows
