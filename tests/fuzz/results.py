"""Kinds of files that prithvi wrote, and of those that lie beside a scene: masks, labels, lists of granules."""

from __future__ import annotations

import functools
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
import xarray as xr
from rasterio import Affine

from prithvi.catalog import data_catalog
from prithvi.chips.label_files import open_labels
from prithvi.chips.tile_sampling import read_tiles
from prithvi.errors import PrithviError
from prithvi.evaluation.areas import estimate_areas
from prithvi.hls.items import read_items, write_items
from prithvi.mapping import Products, fill_series, map_scene
from prithvi.mapping.maskproducts import read_mask
from prithvi.products.class_polygons import class_polygons
from prithvi.products.classmap import mapped_areas
from prithvi.products.zones import area_by_zone
from prithvi.report import view
from prithvi.scenes import crop, open_scene
from tests.conftest import small_task
from tests.faults.verbs import six_bands, tif
from tests.fuzz.kind import BLOCK, Kind, WrongError, one_changed
from tests.fuzz.mutations import edits
from tests.synthetic_hls import make_archive

FLANDERS = data_catalog() / "samples" / "flanders"
NOWHERE = [
    (0, 0, 0, 0, 0, 0), (1, 0, 0, 0, 1, 0), (30, 0, 1e9, 0, -30, 1e9), (1e-300, 0, 0, 0, 1e-300, 0),
    (float("nan"), 0, 0, 0, 1, 0),
]  # fmt: skip
"""Transforms of files that other programs lost or spoiled."""


def _all_of(number: int, *looks: Callable[[], object]) -> None:
    """Tries each; one of the refusals, where every one refused."""
    errors = []
    for look in looks:
        try:
            look()
        except PrithviError as error:
            errors.append(error)
    if len(errors) == len(looks):
        raise errors[number % len(errors)]


def _written_anew(path: Path, chance: random.Random, number: int) -> None:
    """Writes a raster as another program would that loses or changes one thing of it."""
    with rasterio.open(path) as raster:
        profile, values, tags, names = dict(raster.profile), raster.read(), raster.tags(), raster.descriptions
    for name in ("blockxsize", "blockysize", "tiled"):
        profile.pop(name, None)
    match chance.randrange(8):
        case 0:
            profile["transform"] = Affine(*chance.choice(NOWHERE))
        case 1:
            profile["crs"] = chance.choice([None, "EPSG:4326", "EPSG:3857", "EPSG:32760"])
        case 2:
            profile |= {"dtype": chance.choice(["uint16", "int16", "float32", "float64"]), "nodata": None}
        case 3:
            values = values[:, : chance.choice([1, 2, 30]), : chance.choice([1, 3, 64])]
            profile["height"], profile["width"] = values.shape[1:]
        case 4:
            values, names = np.concatenate([values, values]), (*names, *names)
        case 5:
            values = np.full_like(values, chance.choice([0, 77, profile["nodata"] or 0]))
        case 6:
            changed = edits(tags, number // BLOCK, BLOCK)[number % BLOCK]
            kept = changed.items() if isinstance(changed, dict) else ()
            tags = {f"{key}": f"{value}".replace("\0", "")[:400] for key, value in kept if key and "=" not in key}
        case _:
            values, names = values[:1], names[:1]
    profile["count"] = len(values)
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(values.astype(profile["dtype"]))
        raster.update_tags(**tags)
        raster.descriptions = names


def _changed(sound: Path, work: Path, number: int) -> Path:
    """A copy in which every other raster that is changed is written anew, and all else is as in `one_changed`."""
    chance = random.Random(number)
    bases = sorted(sound.iterdir())
    base = bases[number % len(bases)]
    files = [base] if base.is_file() else sorted(base.rglob("*.tif"))
    if chance.random() < 0.5 or not files or files[0].suffix != ".tif":
        return one_changed(sound, work, number, (".json",))
    target = work / base.name
    shutil.copytree(base, target) if base.is_dir() else shutil.copy(base, target)
    file = work / chance.choice(files).relative_to(sound)
    _written_anew(file, chance, number)
    return target


def _make_maps(folder: Path) -> None:
    root = folder.parent
    tif(root / "scene.tif", six_bands()[:, :96, :96], nodata=-9999)
    scene = open_scene(root / "scene.tif", dates=["2022-05-01"])
    model = small_task().fitted(seed=0)
    map_scene(model, scene, folder / "maps" / "map.tif", products=Products(True, "uint8", item=True, style=True))
    left, _, _, top = scene.rio.bounds()
    box = shapely.box(left + 100, top - 500, left + 400, top - 100)
    gpd.GeoDataFrame({"farm": ["a"]}, geometry=[box], crs=scene.rio.crs).to_file(root / "zones.gpkg")
    places = [shapely.Point(left + 30 * step + 15, top - 30 * step - 15) for step in range(30)]
    names = [model.classes[step % 2].name for step in range(30)]
    gpd.GeoDataFrame({"class": names}, geometry=places, crs=scene.rio.crs).to_file(root / "points.gpkg")


def _look_into_map(path: Path, out: Path, number: int) -> None:
    file, root = path / "map.tif", out.parents[1]
    found: list[dict[str, float]] = []
    _all_of(
        number,
        lambda: found.append(mapped_areas(file)),
        lambda: class_polygons(file),
        lambda: area_by_zone(file, root / "zones.gpkg"),
        lambda: estimate_areas(file, root / "points.gpkg", column="class"),
        lambda: open_labels(file),
        lambda: view([file], out / "page.html"),
    )
    for areas in found:
        with rasterio.open(file) as raster:
            known, step, placed = raster.read_masks(1) > 0, raster.transform.determinant, raster.crs.to_epsg() == 32630
        if abs(step) in (0, 1):  # as GDAL gives the transform of a file that has none, or one of zeros
            raise WrongError("areas of what has no geotransform")
        # In this zone a pixel's area on the ellipsoid is its area on the plane to half a percent.
        if not math.isclose(sum(areas.values()), known.sum() * abs(step), rel_tol=5e-3) and placed:
            raise WrongError(f"areas of {sum(areas.values()):.0f} m2, of {known.sum()} pixels of {abs(step):g} m2")


@functools.cache
def _season() -> xr.DataArray:
    """Three dates, the second with a hole."""
    files = [FLANDERS / f"{day}.json" for day in ("2018-06-28", "2018-07-08", "2018-07-18")]
    return crop(open_scene(files), slice(0, 48), slice(0, 48))


def _make_series(folder: Path) -> None:
    season = _season()
    values = season.values.astype(np.float32)
    values[1, :, 5:20, 5:20] = np.nan
    fill_series(season.copy(data=values), folder / "series", "linear")
    fill_series(season.copy(data=values), folder / "series.zarr", "linear")


def _look_into_series(path: Path, out: Path, number: int) -> None:
    dated = [path / f"2018-0{day}.tif" for day in ("6-28", "7-08", "7-18")]
    looks: list[Callable[[], object]] = [lambda: view([path], out / "page.html")]
    if path.suffix != ".zarr":
        looks.append(lambda: open_scene(dated).values)
    _all_of(number, *looks)


def _make_masks(folder: Path) -> None:
    season = _season()
    cloudy = np.zeros((48, 48), np.uint8)
    cloudy[5:20, 5:20] = 1
    for name, values in (("2018-06-28_cloud.tif", cloudy), ("Fmask.tif", cloudy * 2 + 64),
                         ("SCL.tif", np.where(cloudy, 9, 4).astype(np.uint8))):  # fmt: skip
        with rasterio.open(
            folder / name, "w", driver="GTiff", width=48, height=48, count=1, dtype="uint8", nodata=255,
            crs=season.rio.crs, transform=season.rio.transform(),
        ) as raster:  # fmt: skip
            raster.write(values, 1)


def _look_into_mask(path: Path, out: Path, number: int) -> None:
    found = read_mask(path, _season()[:1], None)
    if (rank := found.rank.compute()).shape != (48, 48):
        raise WrongError(f"a mask of {rank.shape}")


def _make_labels(folder: Path) -> None:
    season = _season()
    left, bottom, _, _ = season.rio.bounds()
    boxes = [shapely.box(left + 50 * n, bottom + 50 * n, left + 50 * n + 150, bottom + 50 * n + 100) for n in range(3)]
    columns = {"crop": ["a", "b", "c"], "year": [1, 2, 3], "day": pd.to_datetime(["2022-05-01"] * 3)}
    fields = gpd.GeoDataFrame(columns, geometry=boxes, crs=season.rio.crs)
    fields.to_file(folder / "fields.gpkg")
    fields.to_file(folder / "fields.fgb")
    fields.to_parquet(folder / "fields.parquet")
    (folder / "shape").mkdir()
    fields.drop(columns="day").to_file(folder / "shape" / "fields.shp")
    made = make_archive(folder.parent / "archive", ["31UDS"], dates=2, size=64)
    for name in ("items.json", "items.parquet"):
        write_items(made.items, folder / name)
    write_items(made.items, folder.parent / "items.json")
    (folder / "tiles.csv").write_text("tile,ecoregion\n31UDS,meadow\n")


def _look_into_labels(path: Path, out: Path, number: int) -> None:
    if path.name == "tiles.csv":
        read_tiles(path, read_items(out.parents[1] / "items.json"))
        return
    if path.stem == "items":
        read_items(path)
        return
    season = _season()
    file, crs, at = path / "fields.shp" if path.is_dir() else path, season.rio.crs.to_wkt(), season.rio.transform()
    labels = open_labels(file, "crop").near(crs, season.rio.bounds())
    if labels.on(at, (48, 48)).shape != (48, 48):
        raise WrongError("labels of another shape")


RESULTS = (
    Kind("map", 500, _make_maps, _changed, _look_into_map),
    Kind("series", 300, _make_series, _changed, _look_into_series),
    Kind("cloud mask", 300, _make_masks, _changed, _look_into_mask),
    Kind("labels and lists", 500, _make_labels, _changed, _look_into_labels),
)
