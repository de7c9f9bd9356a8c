"""Kinds of files that come from elsewhere: how sound ones are made, and how one is opened and looked into."""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
import xarray as xr
import yaml
from rasterio.transform import from_origin
from safetensors.torch import save_file

from prithvi.bands import PRITHVI_BANDS, common_name
from prithvi.catalog import config_path, data_catalog
from prithvi.chips import ChipStore, StoreSpec
from prithvi.chips.label_files import open_labels
from prithvi.cli.lightning import one_sentence, parsed
from prithvi.cli.settings import check, head_of, with_own_head_options, with_shipped
from prithvi.errors import PrithviError
from prithvi.evaluation.compare import read_comparison
from prithvi.mapping import Products, fill_series, map_scene
from prithvi.mapping.gap_filling import fill
from prithvi.modelio import load, save
from prithvi.modelio.model_files import SHIPPED, requirements_of
from prithvi.modelio.predictor import FittedModel
from prithvi.models import build
from prithvi.products.zones import area_by_zone
from prithvi.scenes import Area, open_scene
from prithvi.scenes.conform import conform
from prithvi.service.settings import settings_of
from tests.chips.conftest import CLASSES, sample_chips
from tests.conftest import small_task
from tests.faults.verbs import VERBS, six_bands, tif
from tests.fuzz.kind import (
    BLOCK,
    Kind,
    OutsideError,
    WrongError,
    documents,
    nothing_under_a_final_name,
    of_documents,
    one_changed,
)  # fmt: skip
from tests.fuzz.mutations import damaged
from tests.safe_products import make_product
from tests.synthetic_hls import make_archive

FLANDERS = data_catalog() / "samples" / "flanders"
ROWS, COLUMNS = slice(8, 40), slice(4, 36)


def _make_rasters(folder: Path) -> None:
    pixels = six_bands()[:, 100:196, 300:380].copy()
    pixels[:, 40:50, 20:40] = -9999
    blocks = {"tiled": True, "blockxsize": 32, "blockysize": 32}
    tif(folder / "tiled.tif", pixels, nodata=-9999, **blocks)
    tif(folder / "strips.tif", pixels, nodata=-9999, compress="none")
    tif(folder / "zstd.tif", pixels, nodata=-9999, compress="zstd", predictor=2, **blocks)
    tif(folder / "lzw.tif", pixels, nodata=-9999, compress="lzw", interleave="band")
    tif(folder / "float.tif", pixels.astype(np.float32), nodata=np.nan, **blocks)
    tif(folder / "cog.tif", pixels, nodata=-9999, driver="COG", blocksize=128, compress="lerc_zstd")
    tif(folder / "big.tif", pixels, nodata=-9999, BIGTIFF="YES", **blocks)
    for name in ("2018-06-28.tif", "2018-07-08.tif"):  # real ones, as they ship
        shutil.copy(FLANDERS / name, folder / name)


@functools.cache
def _fitted() -> Any:
    return small_task().fitted(seed=0)


def _look_into_scene(path: Path, out: Path, number: int, **options: Any) -> xr.DataArray:
    """Opens, compares with a contract, and reads a window."""
    scene = open_scene(path, **options)
    conform(scene, _fitted().contract)
    values = scene[:, :, ROWS, COLUMNS].values
    if number % 20 == 0:
        try:
            map_scene(_fitted(), scene, out / "map.tif", products=Products(True))
        except Exception:
            nothing_under_a_final_name(out)
            raise
    return scene[:, :, ROWS, COLUMNS].copy(data=values)


def _look_into_raster(path: Path, out: Path, number: int) -> None:
    found = _look_into_scene(path, out, number)
    # The same by another way: GDAL's numbers of the bands of these names.
    with rasterio.open(path) as raster:
        scaled = len(set(raster.scales)) == len(set(raster.offsets)) == 1
        names = [common_name(name) if name else None for name in raster.descriptions]
        if found.sizes["time"] != 1 or not scaled:
            return
        for place, band in enumerate(found["band"].values):
            if names.count(band) != 1:
                continue
            ours, raw = found[0, place].values, raster.read(names.index(band) + 1)[ROWS, COLUMNS]
            known = ~np.isnan(ours)
            if ours.shape != raw.shape or not np.array_equal(ours[known], raw.astype(ours.dtype)[known]):
                raise WrongError(f"{band} holds other values than GDAL reads")


def _make_safe(folder: Path) -> None:
    for era in ("2015 L1C", "2023 L1C", "2023 L2A"):
        make_product(folder, era, all_sizes=False)


def _make_zarr(folder: Path) -> None:
    ChipStore.create(
        folder / "chips.zarr", StoreSpec(32, 32, 2, classes=CLASSES, shard=4), sample_chips(six_bands(), 12)
    )
    days = np.array(["2022-05-01", "2022-05-06", "2022-05-11"], "datetime64[ns]")
    with rasterio.open(FLANDERS / "2018-06-28.tif") as raster:
        values = np.stack([raster.read()[:, :48, :48].astype(np.float32)] * 3)
    values[1, :, 5:20, 5:20] = np.nan
    coords = {"time": days, "band": list(PRITHVI_BANDS)}
    series = xr.DataArray(
        values, dims=("time", "band", "y", "x"), coords=coords, attrs={"gain": 1e-4, "source": "cube"}
    )
    series = series.rio.write_crs("EPSG:32631").rio.write_transform(from_origin(600_000, 5_000_000, 10, 10))
    for version in (2, 3):
        fill_series(series, folder / f"cube{version}.zarr", "linear", zarr_format=version)


def _look_into_zarr(path: Path, out: Path, number: int) -> None:
    if path.name == "chips.zarr":
        store = ChipStore(path)
        indices = range(min(len(store), 6))
        found = store.read(indices)
        _ = store.samples, store.parts, store.verify()
        if any(len(values) != len(indices) for values in found.values()):
            raise WrongError("fewer samples were read than were asked for")
        return
    try:
        opened = xr.open_zarr(path, decode_coords="all")
        opened.load()
    except Exception as error:  # what reads it is not ours
        raise OutsideError from error
    scene = open_scene(opened.get("image", opened))
    fill(scene, "nearest").compute()


def _make_checkpoints(folder: Path) -> None:
    model = build(TINY).eval()
    torch.save(model.state_dict(), folder / "state.pt")
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": {"a": [1, "b"]}}, folder / "run.ckpt")
    save_file(model.state_dict(), folder / "model.safetensors")
    torch.save(model.state_dict(), folder / "old.pth", _use_new_zipfile_serialization=False)


TINY = "prithvi_hls_tiny"


def _look_into_checkpoint(path: Path, out: Path, number: int) -> None:
    with torch.no_grad():
        model = load(path, architecture=TINY)
    if any(parameter.shape != own.shape for parameter, own in zip(model.parameters(), _tiny(), strict=True)):
        raise WrongError("a parameter has another shape")


@functools.cache
def _tiny() -> list[torch.Tensor]:
    return list(build(TINY).parameters())


def _make_configs(folder: Path) -> None:
    """Those of the fault matrix with their data, presets as they ship, and one of a service."""
    data = folder.parent / "data"
    VERBS["fit"].make(data, "")
    VERBS["pretrain"].make(data, "")
    for name in ("fit", "pretrain", "compare"):
        shutil.copy(data / "in" / f"{name}.yaml", folder / f"{name}.yaml")
    for name in ("flood", "crops", "cloud_gaps", "compare_floods", "compare_crops"):
        shutil.copy(config_path(name), folder / f"{name}.yaml")
    service = {"models": ["water"], "folders": ["."], "queue": 2, "timeout": 60, "workers": 1, "hosts": ["example.org"]}
    (folder / "service.yaml").write_text(yaml.safe_dump(service))


def _look_into_config(path: Path, out: Path, number: int) -> None:
    os.chdir(out.parents[1] / "data")
    if path.name.startswith("compare"):
        read_comparison(path)
        return
    if path.name == "service.yaml":
        settings_of([], path, {})
        return
    words = with_own_head_options(with_shipped(["-c", str(path), "--trainer.default_root_dir", str(out)]))
    head_of(words)
    check(words)
    if path.name in ("fit.yaml", "pretrain.yaml"):  # the data of presets are not here
        with one_sentence():
            parsed(words, run=False)


def _make_items(folder: Path) -> None:
    for name in ("2018-06-28", "2018-07-18"):
        (folder / name).mkdir()
        shutil.copy(FLANDERS / f"{name}.json", folder / name)
        if (FLANDERS / f"{name}.tif").is_file():
            shutil.copy(FLANDERS / f"{name}.tif", folder / name)
    made = make_archive(folder.parent / "archive", ["31UDS"], dates=2, size=64)
    for item in made.items:
        shutil.copytree(made.root / item.id, folder / item.id)
        plain = item.to_dict(include_self_link=False, transform_hrefs=False)
        text = json.dumps(plain).replace(f"file://{made.root / item.id}", ".")
        (folder / item.id / f"{item.id}.json").write_text(text)


def _change_item(sound: Path, work: Path, number: int) -> Path:
    chance = random.Random(number)
    bases = sorted(sound.iterdir())
    base = bases[number % len(bases)]
    target = Path(shutil.copytree(base, work / base.name, copy_function=os.link))
    item = target / f"{base.name}.json"
    data = item.read_bytes()
    item.unlink()
    if chance.random() < 0.8:
        item.write_text(json.dumps(documents(base / item.name, number // BLOCK)[number % BLOCK]), errors="replace")
    else:
        item.write_bytes(damaged(data, chance))
    return item


def _make_shapes(folder: Path) -> None:
    ring = lambda x, y, d: [[x, y], [x + d, y], [x + d, y + d], [x, y + d], [x, y]]  # noqa: E731
    geometries = [
        {"type": "Polygon", "coordinates": [ring(-1.862, 37.937, 0.004), ring(-1.861, 37.938, 0.001)]},
        {"type": "MultiPolygon", "coordinates": [[ring(-1.861, 37.94, 0.002)], [ring(-1.858, 37.94, 0.002)]]},
        {
            "type": "GeometryCollection",
            "geometries": [{"type": "Polygon", "coordinates": [ring(-1.86, 37.935, 0.003)]}],
        },
    ]
    features = [
        {"type": "Feature", "id": number, "properties": {"farm": f"f{number}", "size": number * 1.5, "day": "2022-05-01"
         }, "geometry": geometry} for number, geometry in enumerate(geometries)
    ]  # fmt: skip
    for name, plain in (
        ("zones", {"type": "FeatureCollection", "features": features}),
        ("named", {"type": "FeatureCollection", "name": "zones", "features": features[:1], "crs": {
            "type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}}),
        ("feature", features[0]), ("geometry", geometries[1]),
    ):  # fmt: skip
        (folder / f"{name}.geojson").write_text(json.dumps(plain))


@functools.cache
def _mapped(root: Path) -> tuple[xr.DataArray, Path]:
    """A scene and its map."""
    tif(root / "scene.tif", six_bands()[:, :96, :96], nodata=-9999)
    scene = open_scene(root / "scene.tif")
    return scene, map_scene(_fitted(), scene, root / "map" / "map.tif").path


def _look_into_shapes(path: Path, out: Path, number: int) -> None:
    scene, made = _mapped(out.parents[1])
    errors = []
    for look in (
        lambda: Area.from_file(path).window(scene),
        lambda: area_by_zone(made, path),
        lambda: open_labels(path, "farm"),
    ):
        try:
            look()
        except PrithviError as error:
            errors.append(error)
    if len(errors) == 3:
        raise errors[number % 3]


def _make_models(folder: Path) -> None:
    for name, head in (("light", "light"), ("fcn", "fcn")):
        save(small_task(head=head).fitted(seed=0), folder / name)
    shutil.copytree(SHIPPED / TINY, folder / "pretrained")


def _change_model(sound: Path, work: Path, number: int) -> Path:
    return one_changed(sound, work, number, (".json",))


def _look_into_model(path: Path, out: Path, number: int) -> None:
    requirements_of(str(path))
    model = load(path)
    module = model.model if isinstance(model, FittedModel) else model
    if any(not torch.isfinite(parameter).all() for parameter in module.parameters()):
        raise WrongError("weights that are not numbers were loaded")


INPUTS = (
    Kind("GeoTIFF", 1500, _make_rasters, one_changed, _look_into_raster),
    Kind("SAFE", 600, _make_safe, one_changed, _look_into_scene),
    Kind("Zarr", 700, _make_zarr, of_documents(".json"), _look_into_zarr),
    Kind("checkpoint", 700, _make_checkpoints, one_changed, _look_into_checkpoint),
    Kind("config", 700, _make_configs, of_documents(".yaml"), _look_into_config),
    Kind("STAC item", 700, _make_items, _change_item, _look_into_scene),
    Kind("GeoJSON", 700, _make_shapes, of_documents(".geojson"), _look_into_shapes),
    Kind("model folder", 600, _make_models, _change_model, _look_into_model),
)  # fmt: skip
