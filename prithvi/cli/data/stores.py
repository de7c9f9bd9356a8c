"""`prithvi data build`, `verify` and `show`: chip stores written, checked, and described like public datasets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from prithvi.cli.options import Frames, Json, MaxCloud, MaxGap, MinGap, Sequences, absolute, words_of
from prithvi.errors import counted


def build_verb(
    source: Annotated[str, typer.Argument(help="A search result, a folder of granules, or the name of a dataset.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The store to write, such as girona.zarr.")],
    size: Annotated[
        int | None, typer.Option(help="Side of a chip in pixels (224; datasets: whole images).", min=1)
    ] = None,
    frames: Frames = 3,
    root: Annotated[Path | None, typer.Option(help="Where a dataset's archive was unpacked.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Vector file or class raster with labels.")] = None,
    class_column: Annotated[str | None, typer.Option(help="The vector file's column with the classes.")] = None,
    background: Annotated[
        str | None, typer.Option(help="Class of pixels outside every feature; left out: unlabelled.")
    ] = None,
    ignore: Annotated[
        str | None,
        typer.Option(help="Values of a label raster (252,253), or classes of the column, that are no class."),
    ] = None,
    keep: Annotated[str | None, typer.Option(help="Values of a label raster that are classes, such as 255.")] = None,
    label_product: Annotated[
        str | None, typer.Option(help="What a label raster is: dswx-hls, dswx-hls-bwtr, ...; else by its name.")
    ] = None,
    min_labelled: Annotated[float, typer.Option(help="Leave out chips with no more than this share labelled.")] = 0.0,
    split: Annotated[
        str | None, typer.Option(help="block:5km (parts that far apart), or column:NAME of the label file.")
    ] = None,
    area: Annotated[Path | None, typer.Option(help="Vector file: only chips that touch it.")] = None,
    good: Annotated[float, typer.Option(help="Least share of good pixels by Fmask on each date.")] = 0.8,
    missing: Annotated[float, typer.Option(help="Largest share of missing pixels on each date.")] = 0.01,
    max_cloud: MaxCloud = 15.0,
    min_gap: MinGap = 28,
    max_gap: MaxGap = 84,
    sequences: Sequences = 10,
    per_tile: Annotated[int, typer.Option(help="Most chips of a tile.", min=1)] = 3000,
    per_place: Annotated[int, typer.Option(help="Most chips of one place.", min=1)] = 10,
    codec: Annotated[str, typer.Option(help="zstd (smaller) or lz4 (faster).")] = "zstd",
    shard: Annotated[int, typer.Option(help="Chips in a file.", min=1)] = 64,
    sharding: Annotated[
        bool, typer.Option(help="Without: a file a chip and array, for readers that know no shards (GDAL 3.12).")
    ] = True,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    scheduler: Annotated[
        str | None, typer.Option(help="Dask scheduler (tcp://host:8786); threads if left out.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Threads; one a core.", min=1)] = None,
    append: Annotated[bool, typer.Option("--append", help="Add to a store that is there.")] = False,
) -> None:
    """Cuts chips that pass the filters, and keeps them in a Zarr store. A killed build goes on where it was."""
    from prithvi.catalog import dataset_names
    from prithvi.chips import DateRule, Filters
    from prithvi.chips.recipes import Recipe, store_of_dataset, store_of_granules
    from prithvi.cli.progress import bar
    from prithvi.errors import ConfigError

    # A bar for each stage of the build: the one before is closed as the next begins, the last whatever happens.
    with ExitStack() as bars:

        def progress(title: str) -> Callable[[int, int], None]:
            bars.close()
            return bars.enter_context(bar(title))

        if scheduler is not None:
            (source,), output = absolute([source]), output.absolute()
            root, labels, area = (path and path.absolute() for path in (root, labels, area))
        common: dict[str, Any] = {"split": split, "codec": codec, "shard": shard, "sharding": sharding, "seed": seed}
        common |= {"append": append, "scheduler": scheduler, "workers": workers, "progress": progress}
        if not Path(source).exists() and source in dataset_names():
            if root is None:
                raise ConfigError(f"{source} is a dataset: say where its archive was unpacked (--root DIR).")
            if labels is not None or ignore or keep or label_product:
                raise ConfigError(
                    f"{source} has labels of its own; --labels, --ignore, --keep and --label-product are for granules."
                )
            store = store_of_dataset(source, root, output, size=size, **common)
        else:
            recipe = Recipe(
                size=size or 224,
                frames=frames,
                filters=Filters(good, missing),
                dates=DateRule.of_percent(frames, min_gap, max_gap, max_cloud, wanted=sequences),
                per_tile=per_tile,
                per_place=per_place,
                labels=str(labels) if labels is not None else None,
                class_column=class_column,
                background=background,
                ignore=tuple(filter(None, words_of(ignore))),
                keep=tuple(filter(None, words_of(keep))),
                label_product=label_product,
                least_labelled=min_labelled,
                area=str(area) if area is not None else None,
            )
            store = store_of_granules(source, output, recipe, note=lambda text: typer.echo(text, err=True), **common)
    parts = store.attributes["samples"].items()
    named = ", ".join(f"{count:,} {part or 'in no part'}" for part, count in parts)
    typer.echo(f"{store.path}: {counted(len(store), 'chip')} ({named})")


def verify_verb(store: Annotated[Path, typer.Argument(help="The store.")], as_json: Json = False) -> None:
    """Compares every file of a store with its checksum; status 1 where one differs."""
    from prithvi.chips import verify
    from prithvi.cli.progress import bar

    with bar("verifying") as progress:
        report = verify(store, progress)
    if as_json:
        rows = [{"path": p.path, "what": p.what, "samples": p.samples} for p in report.problems]
        typer.echo(json.dumps({"files": report.files, "problems": rows, "unfinished": report.unfinished}, indent=2))
    else:
        for problem in report.problems:
            typer.echo(str(problem))
        damaged = f"{len(report.problems)} of {report.files:,} files are damaged"
        typer.echo(f"{store}: {damaged if report.problems else counted(report.files, 'file') + ', all intact'}")
        if report.unfinished:
            typer.echo(f"{store}: {report.unfinished}")
    if report.problems:
        raise typer.Exit(1)


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
        "chips": f"{len(store):,} of {counted(spec.frames, 'date')} x {pixels}",
        "size": f"{size / 1e6:,.1f} MB ({spec.codec}, {counted(spec.shard if spec.sharding else 1, 'chip')} a file)",
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
        counts = zip(spec.classes, found["classes"], strict=True)
        rows["classes"] = [f"{each.value:3} {each.name} #{each.color} {count / whole:.1%}" for each, count in counts]
    return rows


def _statistics(
    bands: Iterable[str], means: Iterable[float | None], stds: Iterable[float | None], unit: str = ""
) -> list[str]:
    """A line a band; nan where a store has null, for a band without any pixel."""
    rows = zip(bands, means, stds, strict=True)
    known = [(band, *(float("nan") if value is None else value for value in moments)) for band, *moments in rows]
    return [f"{band:12} mean {mean:9.2f}  std {std:9.2f}{unit}" for band, mean, std in known]
