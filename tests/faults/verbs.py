"""The verbs that are hurt: how the small input of each is made, what is typed, and what stands under final names after.

Every run has a folder of its own place: `in/` holds what is read, `out/` what is written. Words are the same in every
try, because files tell the command that made them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import yaml
from rasterio.transform import from_origin

from prithvi.bands import PRITHVI_BANDS
from prithvi.catalog import dataset
from prithvi.chips import ChipStore, StoreSpec
from prithvi.errors import PrithviError
from prithvi.modelio import save
from tests.chips.conftest import sample_chips
from tests.conftest import SIX, SPAIN, small_task
from tests.hub_server import Hub
from tests.synthetic_hls import make_archive

DATE = "2019-09-18"
SMALL = {"embed_dim": 64, "depth": 2, "num_heads": 2}
Content = dict[str, bytes]


def files_of(folder: Path) -> Content:
    """Every file below a folder that is not hidden, nor in a hidden folder."""
    found = {file.relative_to(folder): file for file in sorted(folder.rglob("*")) if file.is_file()}
    return {
        name.as_posix(): file.read_bytes() for name, file in found.items()
        if not any(part.startswith(".") for part in name.parts)
    }  # fmt: skip


@dataclass(frozen=True)
class Verb:
    """A row of the table."""

    name: str
    words: tuple[str, ...]
    """What is typed."""
    make: Callable[[Path, str], None]
    """Makes `in/` of a folder, which is served under an address."""
    harmed: tuple[str, ...]
    """Patterns of files in `in/` that are cut short or changed; their pixels and weights carry checksums."""
    result: Callable[[Path, Hub], Content]
    """What stands under final names in `out/` or on the hub, without what differs from run to run (minutes, days)."""
    again: tuple[str, ...] = ()
    """What is typed in addition to go on."""
    earlier: tuple[str, ...] = ()
    """What is typed for an earlier result of the same names; nothing where a verb refuses to replace one."""
    stage: Callable[[Hub, Path, bool], None] = lambda *_: None
    """Prepares the hub: (hub, folder, whether for an earlier result)."""
    service: bool = False
    """Whether it goes on until it is ended, and is asked for results."""
    imports: tuple[str, ...] = ("prithvi.mapping.class_maps", "prithvi.mapping.methods", "prithvi.chips.recipes")
    remote: tuple[str, ...] = ()
    """What is typed with inputs on a server, {url}."""
    spread: tuple[str, ...] = ()
    """What is typed with work in other processes: {scheduler} is a Dask scheduler of two workers."""
    busy: str = ""
    """Pattern of files in `out/` that are there once those processes are at work."""
    impossible: Mapping[str, str] = field(default_factory=dict)
    """Why a fault cannot come to this verb."""


def six_bands() -> np.ndarray:
    """(6, 512, 512) int16."""
    with rasterio.open(SPAIN) as raster:
        pixels: np.ndarray = raster.read(SIX)
    return pixels


def tif(path: Path, pixels: np.ndarray, names: tuple[str, ...] = PRITHVI_BANDS, **more: Any) -> None:
    """A compressed GeoTIFF, whose compression notices a byte that changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff", "count": pixels.shape[0], "height": pixels.shape[1], "width": pixels.shape[2],
        "dtype": pixels.dtype, "crs": "EPSG:32630", "transform": from_origin(600_000, 4_200_000, 10, 10),
        "compress": "deflate", **more,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(pixels)
        if names:
            raster.scales = [1e-4] * raster.count
        for index, band in enumerate(names, start=1):
            raster.set_band_description(index, band)


def _model(folder: Path) -> None:
    save(small_task().fitted(seed=0), folder / "in" / "model")


def _make_map(folder: Path, _: str) -> None:
    _model(folder)
    pixels = six_bands()[:, :260, 100:240].copy()
    pixels[:, 120:150, 40:90] = -9999
    for name in ("a", "b"):
        tif(folder / "in" / f"{name}.tif", pixels, nodata=-9999, tiled=True, blockxsize=64, blockysize=64)


def _make_series(folder: Path, _: str) -> None:
    random, pixels = np.random.default_rng(0), six_bands()
    for number in range(5):
        date = np.clip(pixels[:, 100:180, 330:394] * (1 + 0.05 * number), 1, 9000).round().astype(np.int16)
        tif(folder / "in" / f"d{number}.tif", date, nodata=-9999)
        cloud = np.kron(random.random((10, 8)) < 0.3, np.ones((8, 8))).astype(np.uint8)
        tif(folder / "in" / f"c{number}.tif", cloud[None], ())


_SERIES = ("fill", "--method", "linear", "--sensor", "hls-s30", "--stride", "8", "-o", "out")
_DATES = tuple(word for number in range(5) for word in ("--date", f"2020-05-1{number}"))


def _series(where: str) -> tuple[str, ...]:
    masks = (word for number in range(5) for word in ("--clouds", f"in/c{number}.tif"))  # of this machine always
    return *_SERIES, *(f"{where}/d{number}.tif" for number in range(5)), *masks, *_DATES


def _make_granules(folder: Path, url: str) -> None:
    made = make_archive(folder / "in" / "archive", ["31UDS"], dates=4, every_days=15, size=256)
    first = next(path for path in sorted(made.root.iterdir()) if path.name.startswith("HLS.S30"))
    shutil.copytree(first, folder / "in" / "granule")
    items = (made.root / "items.json").read_text().replace(f"file://{made.root}", f"{url}/archive")
    (folder / "in" / "served.json").write_text(items)
    item = next(item for item in json.loads(items)["features"] if item["id"] == first.name)
    (folder / "in" / "served_item.json").write_text(json.dumps(item))


def _store(out: Path, _: Hub) -> Content:
    """A store that opens; of one that does not, nothing is taken for a result."""
    try:
        ChipStore(out / "chips.zarr")
    except PrithviError:
        return {}
    return files_of(out / "chips.zarr")


def _make_squares(folder: Path, _: str) -> None:
    inside, pixels = folder / "in", six_bands()
    for number in range(8):
        part = np.zeros((13, 32, 32), np.int16)
        part[[1, 2, 3, 8, 11, 12]] = pixels[:, 48 * number : 48 * number + 32, 350:382]
        label = (part[2].astype(float) > part[11]).astype(np.int16)
        tif(inside / "squares" / "S2Hand" / f"c{number}_S2Hand.tif", part, ())
        tif(inside / "squares" / "LabelHand" / f"c{number}_LabelHand.tif", label[None], ())
    for split, numbers in (("train", range(4)), ("val", range(4, 6)), ("test", range(6, 8))):
        path = dataset("sen1floods11").splits[split].list
        assert path is not None
        (inside / "squares" / path.name).write_text("\n".join(f"c{number}" for number in numbers))
    _write_yaml(inside / "fit.yaml", {
        "seed_everything": 0,
        "trainer": _trainer(max_epochs=3, callbacks=[_keeper(monitor="val/mIoU", mode="max", filename="best")]),
        "model": {"class_path": "prithvi.tasks.SegmentationTask", "init_args": {
            "window": 32, "head": "light", "model_options": SMALL}},
        "data": {"class_path": "prithvi.data.ChipDataModule", "init_args": {
            "root": "in/squares", "splits": "in/squares", "dataset": "sen1floods11", "crop": 32, "batch_size": 2}},
    })  # fmt: skip
    _write_yaml(inside / "compare.yaml", {
        "baselines": False, "because": "this is quick", "title": "two methods", "fit": "fit.yaml", "figure": "mIoU",
        "fractions": [1.0], "seeds": 2, "options": {"trainer.max_epochs": 1},
        "methods": {"random": {"model.init": None}, "MNDWI": {
            "baseline": "index", "bands": ["green", "swir_1"], "positive": "water", "above": True}},
    })  # fmt: skip


def _make_chips(folder: Path, _: str) -> None:
    chips = sample_chips(six_bands(), 60)
    path = folder / "in" / "chips.zarr"
    path.parent.mkdir(parents=True, exist_ok=True)
    ChipStore.create(path, StoreSpec(32, 32, 2, shard=16), [type(c)(c.image, c.sample, c.fmask) for c in chips])
    _write_yaml(folder / "in" / "pretrain.yaml", {
        "seed_everything": 0,
        "trainer": _trainer(max_steps=8, limit_val_batches=1, callbacks=[_keeper(every_n_train_steps=2, save_top_k=0)]),
        "model": {"class_path": "prithvi.tasks.PretrainTask", "init_args": {
            "model": "prithvi_hls_tiny", "crop": 32, "model_options": {
                "embed_dim": 32, "depth": 2, "num_heads": 2, "decoder_embed_dim": 32, "decoder_depth": 1,
                "decoder_num_heads": 2}}},
        "data": {"class_path": "prithvi.data.PretrainDataModule", "init_args": {
            "stores": ["in/chips.zarr"], "batch_size": 8, "num_workers": 0}},
    })  # fmt: skip


def _trainer(**more: Any) -> dict[str, Any]:
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    return {"accelerator": "cpu", "default_root_dir": "out", "num_sanity_val_steps": 0, **quiet, **more}


def _keeper(**more: Any) -> dict[str, Any]:
    kept = {"dirpath": "out/kept", "save_last": True, **more}
    return {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": kept}


def _write_yaml(path: Path, plain: Any) -> None:
    path.write_text(yaml.safe_dump(plain, sort_keys=False))


def _trained(out: Path, _: Hub) -> Content:
    """A model folder: its weights, and its config without the day, the minutes and the command."""
    found = files_of(out / "model")
    if "config.json" in found:
        plain = json.loads(found["config.json"])
        for part in ("provenance", "training"):
            for key in ("date", "minutes", "command", "train/loss"):  # the last is none's whose steps were done before
                plain.get(part, {}).pop(key, None)
        found["config.json"] = json.dumps(plain, sort_keys=True).encode()
    return {name: found[name] for name in ("config.json", "model.safetensors") if name in found}


def _compared(out: Path, _: Hub) -> Content:
    """The trials that are done, and the table where all are."""
    found = {}
    for path in sorted((out / "runs").glob("*/result.json")):
        plain = json.loads(path.read_text())
        plain.pop("seconds", None)
        found[path.parent.name] = json.dumps(plain, sort_keys=True).encode()
    table, rows = out / "table.md", out / "results.csv"
    whole = table.is_file() and rows.is_file() and len(rows.read_text().splitlines()) == 5
    return found | ({"table": table.read_bytes()} if whole else {})


def _written(out: Path, _: Hub) -> Content:
    found = files_of(out)
    if "manifest.parquet" in found:
        found["manifest.parquet"] = pd.read_parquet(out / "manifest.parquet").drop(columns="seconds").to_json().encode()
    return found


def _make_scenes(folder: Path, _: str) -> None:
    _model(folder)
    for name, times in (("small", 1), ("large", 4)):
        pixels = np.tile(six_bands()[:, :64, :64], (1, times, times))
        tif(folder / "in" / "scenes" / f"{name}.tif", pixels, tiled=True, blockxsize=64, blockysize=64)


def _jobs(out: Path, _: Hub) -> Content:
    """The maps that jobs made, their pixels alone: their tags tell the job. One that differs from others of its name is
    kept beside them."""
    found: Content = {}
    for path in sorted(out.glob("jobs/*/result/*.tif")):
        with rasterio.open(path) as raster:
            pixels = raster.read().tobytes()
        if found.setdefault(path.name, pixels) != pixels:
            found[f"{path.parents[1].name}/{path.name}"] = pixels
    return found


def _make_model(folder: Path, _: str) -> None:
    _model(folder)
    save(small_task(head="fcn").fitted(seed=3), folder / "in" / "older")


def _of_folder(folder: Path) -> Content:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}


def _stage_pull(hub: Hub, folder: Path, earlier: bool) -> None:
    if earlier or "me/model" not in hub.repositories:
        hub.repositories.clear()
    hub.add("me/model", _of_folder(folder / "in" / ("older" if earlier else "model")))


def _pulled(out: Path, _: Hub) -> Content:
    """Every file of the cache that a snapshot names; it is called by its weights, as commits have other names."""
    found = {}
    for folder in sorted(out.glob("hub/*/snapshots/*")):
        files = _of_folder(folder)
        weights = json.loads(files["config.json"])["weights_sha256"] if "config.json" in files else "none"
        found |= {f"{weights[:8]}/{name}": data for name, data in files.items()}
    return found


def _stage_push(hub: Hub, _: Path, earlier: bool) -> None:
    if earlier or not hub.repositories:
        hub.repositories.clear()
        hub.store.clear()


def _pushed(_: Path, hub: Hub) -> Content:
    files = hub.files("me/model") if "me/model" in hub.repositories else {}
    return {name: data for name, data in files.items() if not name.startswith(".")}


_TRAINING = ("prithvi.cli.lightning", "prithvi.evaluation.compare")
_FIT, _COMPARE = ("fit", "-c", "in/fit.yaml"), ("compare", "-c", "in/compare.yaml", "-o", "out")
_SENDS = "writes nothing on this machine"
_SERVE = ("serve", "flood=in/model", "--folder", "in/scenes", "--state", "out", "--port", "{port}", "--idle", "3")
_ALONE = "is done by the process alone"
_LOCAL = "reads files of this machine alone; weights by name are those of pull"
_BUILD = (
    "data", "build", "-o", "out/chips.zarr", "--size", "64", "--frames", "2", "--good", "0.5", "--missing", "0.05",
    "--min-gap", "10", "--max-gap", "60", "--max-cloud", "60", "--sequences", "0", "--per-place", "3", "--shard", "8",
    "--seed", "3",
)  # fmt: skip
_MAP = ("map", "in/model", "--date", DATE, "--stride", "8", "--confidence", "--polygons", "none", "-o", "out")

_PULL, _PUSH = ("models", "pull", "me/model"), ("models", "push", "in/model", "me/model")
VERBS = {
    verb.name: verb for verb in (
        Verb("build", (*_BUILD, "in/archive", "--workers", "1"), _make_granules, ("archive/HLS*/*.B0[234].tif",),
             _store, remote=(*_BUILD, "in/served.json", "--workers", "1"), busy="chips.zarr/.build/staged/*",
             spread=(*_BUILD, "in/archive", "--scheduler", "{scheduler}")),
        Verb("pretrain", ("fit", "-c", "in/pretrain.yaml"), _make_chips, ("chips.zarr/image/c/*/*/*/*/*",), _trained,
             again=("--ckpt_path", "out/kept/last.ckpt"), imports=_TRAINING,
             earlier=("fit", "-c", "in/pretrain.yaml", "--model.lr", "1e-3", "--trainer.callbacks", "null"),
             spread=("fit", "-c", "in/pretrain.yaml", "--data.num_workers", "1"), impossible={"connection": _LOCAL}),
        Verb("fit", (*_FIT, "--data.num_workers", "0"), _make_squares, ("squares/S2Hand/*.tif",), _trained,
             earlier=(*_FIT, "--model.lr", "1e-3", "--data.num_workers", "0"), imports=_TRAINING,
             spread=(*_FIT, "--data.num_workers", "1"), impossible={"connection": _LOCAL}),
        Verb("compare", (*_COMPARE, "--data.num_workers", "0"), _make_squares, ("squares/S2Hand/*.tif",), _compared,
             imports=_TRAINING, spread=(*_COMPARE, "--data.num_workers", "1"), impossible={"connection": _LOCAL}),
        Verb("map", (*_MAP, "in/a.tif"), _make_map, ("a.tif", "model/model.safetensors"), _written,
             again=("--resume",), earlier=(*_MAP, "in/a.tif", "--scale", "9000"), remote=(*_MAP, "{url}/a.tif"),
             spread=(*_MAP, "in/a.tif", "in/b.tif", "--scheduler", "{scheduler}"),
             busy=".*.partial/journal.json"),
        Verb("fill", _series("in"), _make_series, ("d?.tif", "c?.tif"), _written, again=("--resume",),
             earlier=(*_series("in"), "--window", "16"), remote=_series("{url}"), impossible={"worker": _ALONE}),
        Verb("mask", ("mask", "in/granule", "-o", "out"), _make_granules, ("granule/*.Fmask.tif",), _written,
             again=("--resume",), earlier=("mask", "in/granule", "-o", "out"),
             remote=("mask", "in/served_item.json", "-o", "out"), impossible={"worker": _ALONE}),
        Verb("serve", _SERVE, _make_scenes, ("scenes/large.tif", "model/model.safetensors"), _jobs, service=True,
             imports=("prithvi.service.app",), earlier=_SERVE, remote=(*_SERVE, "--allow-private", "127.0.0.1")),
        Verb("pull", _PULL, _make_model, (), _pulled, earlier=_PULL, stage=_stage_pull, remote=_PULL,
             impossible={"worker": _ALONE}),
        Verb("push", _PUSH, _make_model, ("model/model.safetensors",), _pushed, stage=_stage_push, remote=_PUSH,
             earlier=("models", "push", "in/older", "me/model"),
             impossible={"worker": _ALONE, "disk": _SENDS, "read-only": _SENDS}),
    )
}  # fmt: skip
