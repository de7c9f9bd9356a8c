"""A chip, a granule and a store from a server that answers 50 ms late: ours, ours before, and what others do.

    python benchmarks/bench_remote_reads.py [--runs 3] [--before FOLDER] [--peers FOLDER] [--cases chip map area ...]

A six-band granule of 3,660 x 3,660 pixels is made once, of the shipped Spain sample side by side, as HLS stores it
(int16, deflate, one file a band): in 256 x 256 blocks as plain tiled GeoTIFFs, whose table of blocks comes last
(`hls`), and as COGs of 512 x 512 blocks with overviews (`cog`). Every read is a process of its own that has imported
everything and read a corner from disk before the clock runs; the ways take turns, and medians are printed with what the
server counted. Ten granules of two tiles are cut into chips of 224 for `build`, and those that touch a square of 3 km
for `area`. `map` asks for the rows of a granule as a map does (windows of 224, half overlapping), with a model that
takes no time.

- ours: `open_scene(addresses)` and `.values`, or `read(crop(...))`; `load` is `.load()`, which goes by Dask's pieces
- before: the same from the checkout of an earlier commit (`--before`)
- rasterio: 18 threads, a band (of a granule a third of one) each, with the settings below
- async-tiff: with obstore, from the folder `--peers` (pip install --target FOLDER async-tiff==0.7.2 obstore==0.12.1)
- odc-stac: `odc.stac.load` of the granule's item, 18 threads
- disk: ours on the same files, for the share that is no waiting
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parents[1]
SIZE, CHIP = 3660, slice(1800, 2024)
BANDS = ("blue", "green", "red", "nir_narrow", "swir_1", "swir_2")
WAYS = {
    "chip": ("disk", "before", "ours", "rasterio", "async-tiff", "odc-stac"),
    "granule": ("disk", "before", "ours", "load", "rasterio", "async-tiff", "odc-stac"),
    "map": ("disk", "before", "ours"),
    "build": ("disk", "before", "ours"),
    "area": ("disk", "before", "ours"),
}
SETTINGS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif",
    "GDAL_HTTP_MULTIRANGE": "YES",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "VSI_CACHE": "TRUE",
}


def make(root: Path) -> None:
    """The granules, unless they are there."""
    import rasterio

    from prithvi.bands import PRITHVI_BANDS
    from prithvi.hls.granules import Granule
    from tests.synthetic_hls import tile_grid

    sample = HERE / "data_catalog/sen1floods11/samples/S2Hand/Spain_7370579_S2Hand.tif"
    with rasterio.open(sample) as raster:
        data = [np.tile(band, (8, 8))[:SIZE, :SIZE].astype(np.int16) for band in raster.read([2, 3, 4, 9, 12, 13])]
    fmask, grid = np.full((SIZE, SIZE), 64, np.uint8), tile_grid("31UDS")
    days = [dt.datetime(2022, 3, 1 + 5 * number, 10, tzinfo=dt.UTC) for number in range(5)]
    forms = {
        "hls": {"driver": "GTiff", "tiled": True, "blockxsize": 256, "blockysize": 256},
        "cog": {"driver": "COG", "blocksize": 512, "overviews": "auto"},
    }
    for form, options in forms.items():
        first = Granule("31UDS", days[0], "S30")
        folder = root / form / str(first)
        folder.mkdir(parents=True)
        for name, values in [*zip(PRITHVI_BANDS, data, strict=True), ("fmask", fmask)]:
            profile = {"height": SIZE, "width": SIZE, "count": 1, "dtype": values.dtype, "crs": f"EPSG:{grid.crs.epsg}",
                       "transform": grid.affine, "nodata": 255 if name == "fmask" else -9999, "compress": "deflate",
                       **options}  # fmt: skip
            with rasterio.open(folder / first.file_name(name), "w", **profile) as raster:
                raster.write(values, 1)
                raster.scales = (1.0 if name == "fmask" else 1e-4,)
        for tile in ("31UDS", "31UES") if form == "hls" else ():
            for day in days:
                other = Granule(tile, day, "S30")
                (root / "ten" / str(other)).mkdir(parents=True)
                for file in folder.iterdir():
                    (root / "ten" / str(other) / file.name.replace(str(first), str(other))).hardlink_to(file)


def files_of(root: Path, form: str) -> list[Path]:
    """The six bands in order."""
    return [next((root / form).rglob(f"*.{band}.tif")) for band in ("B02", "B03", "B04", "B8A", "B11", "B12")]


def with_ours(paths: list[str], case: str, load: bool) -> Any:
    from prithvi.scenes import crop, open_scene, read

    scene = open_scene(paths)
    if case == "chip":
        return read(crop(scene, CHIP, CHIP))[0]
    return (scene.load() if load else scene).values[0]


def with_rasterio(paths: list[str], case: str) -> Any:
    import rasterio
    from rasterio.windows import Window

    whole = case == "granule"
    top, bottom, columns = (0, SIZE, slice(0, SIZE)) if whole else (CHIP.start, CHIP.stop, CHIP)
    rows = (top, *((1536, 2560) if whole else ()), bottom)  # on block borders
    found = np.empty((6, bottom - top, columns.stop - columns.start), np.int16)

    def read(task: tuple[int, int]) -> None:
        band, part = task
        window = Window.from_slices((rows[part], rows[part + 1]), columns)
        with rasterio.open(paths[band]) as raster:
            raster.read(1, window=window, out=found[band, rows[part] - top : rows[part + 1] - top])

    with rasterio.Env(**SETTINGS), ThreadPoolExecutor(18) as pool:
        list(pool.map(read, [(band, part) for part in range(len(rows) - 1) for band in range(6)]))
    return found


def with_async_tiff(paths: list[str], case: str) -> Any:
    from async_tiff import TIFF
    from obstore.store import HTTPStore

    low, high = (0, SIZE) if case == "granule" else (CHIP.start, CHIP.stop)
    found = np.empty((6, high - low, high - low), np.int16)
    base = "/".join(paths[0].split("/")[:3])

    async def read(band: int, store: Any) -> None:
        file = await TIFF.open(paths[band].removeprefix(f"{base}/"), store=store, prefetch=32768)
        side = file.ifds[0].tile_height
        numbers = range(low // side, -(-high // side))
        places = [(column, row) for row in numbers for column in numbers]

        async def put(place: tuple[int, int], tile: Any) -> None:
            values = np.asarray(await tile.decode()).reshape(side, side)
            left, top = (number * side for number in place)
            rows = slice(max(top, low), min(top + side, high))
            columns = slice(max(left, low), min(left + side, high))
            part = values[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
            found[band, rows.start - low : rows.stop - low, columns.start - low : columns.stop - low] = part

        await asyncio.gather(*map(put, places, await file.fetch_tiles(places, 0)))

    async def main() -> None:
        store = HTTPStore.from_url(base, client_options={"allow_http": True})
        await asyncio.gather(*(read(band, store) for band in range(6)))

    asyncio.run(main())
    return found


def with_odc(paths: list[str], case: str) -> Any:
    import odc.stac
    import pystac
    from odc.geo.geobox import GeoBox

    from tests.synthetic_hls import tile_grid

    item = pystac.Item("granule", None, [1.5, 50, 3, 52], dt.datetime(2022, 3, 1), {})
    item.geometry = {"type": "Polygon", "coordinates": [[[1, 50], [3, 50], [3, 52], [1, 52], [1, 50]]]}
    for name, path in zip(BANDS, paths, strict=True):
        item.add_asset(name, pystac.Asset(path, media_type=pystac.MediaType.COG))
    grid = tile_grid("31UDS")
    box: GeoBox = GeoBox((SIZE, SIZE), grid.affine, grid.crs)
    box = box if case == "granule" else box[CHIP, CHIP]
    odc.stac.configure_rio(cloud_defaults=True, **SETTINGS)
    found = odc.stac.load([item], bands=BANDS, geobox=box, dtype="int16", nodata=-9999, pool=18)
    return np.stack([found[name].values[0] for name in BANDS])


def with_map(paths: list[str]) -> Any:
    import rasterio
    import torch

    from prithvi.bands import PRITHVI_BANDS
    from prithvi.contract import Contract
    from prithvi.mapping.sliding_window import blend, rows_of
    from prithvi.scenes import open_scene
    from prithvi.scenes.conform import conform
    from prithvi.scenes.pixels import cache_bytes
    from prithvi.windows import plan

    contract = Contract(PRITHVI_BANDS, (0.0,) * 6, (1.0,) * 6)
    scene = conform(open_scene(paths), contract)
    total = 0.0

    def predict(windows: Any, centres: Any) -> Any:
        nonlocal total
        total += float(windows[:, :, :, ::16, ::16].sum(dtype=torch.float64))
        return torch.zeros(len(windows), 1, 224, 224)

    with rasterio.Env(GDAL_CACHEMAX=4_000_000 + cache_bytes(scene)):
        for _ in blend(rows_of(scene, contract), (SIZE, SIZE), predict, plan(SIZE, SIZE, 224)):
            pass
    return np.array([total])


def with_store(root: Path, base: str | None, case: str) -> Any:
    import geopandas as gpd
    import shapely

    from prithvi.chips import DateRule, Filters
    from prithvi.chips.recipes import Recipe, store_of_granules
    from prithvi.hls import write_items
    from prithvi.hls.items import granule_items
    from tests.synthetic_hls import tile_grid

    items = granule_items(root / "ten")
    for asset in [asset for item in items for asset in item.assets.values()]:
        granule, file = Path(asset.href).parts[-2:]
        asset.href = f"{base}/ten/{granule}/{file}" if base else asset.href
    recipe = Recipe(224, 1, filters=Filters(0.0, 0.99), dates=DateRule(1, 1, 90, 1.0, 1.0, wanted=0), per_place=1)
    with tempfile.TemporaryDirectory() as folder:
        if case == "area":
            grid = tile_grid("31UDS")
            left, top = grid.affine @ (1500, 1500)
            square = gpd.GeoDataFrame(geometry=[shapely.box(left, top - 3000, left + 3000, top)], crs=str(grid.crs))
            square.to_file(Path(folder) / "area.gpkg")
            recipe = replace(recipe, area=str(Path(folder) / "area.gpkg"))
        write_items(items, Path(folder) / "items.json")
        yield  # the clock runs from here
        store = store_of_granules(Path(folder) / "items.json", Path(folder) / "s.zarr", recipe)
        yield np.array([len(store)])


def one(way: str, case: str, form: str, root: Path, base: str) -> None:
    """Reads once, and prints what it took."""
    from slow_server import count_of

    local = [str(path) for path in files_of(root, form)]
    paths = local if way == "disk" else [path.replace(str(root), base) for path in local]
    ours = way in ("disk", "before", "ours", "load")
    if ours:
        with_ours(local, "chip", False)  # imports, projections
    if case in ("build", "area"):
        steps = with_store(root, None if way == "disk" else base, case)
        next(steps)
        read: Callable[[], Any] = lambda: next(steps)  # noqa: E731
    elif case == "map":
        read = lambda: with_map(paths)  # noqa: E731
    elif ours:
        read = lambda: with_ours(paths, case, way == "load")  # noqa: E731
    else:
        reader = {"rasterio": with_rasterio, "async-tiff": with_async_tiff, "odc-stac": with_odc}[way]
        if way != "async-tiff":
            reader(local, "chip")
        read = lambda: reader(paths, case)  # noqa: E731
    count_of(base)
    start, cpu = time.perf_counter(), time.process_time()
    found = read()
    taken = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    count = count_of(base)
    taken |= {"requests": count.requests, "mb": count.sent / 1e6, "at_once": count.at_once}
    taken |= {
        "peak": _peak(),
        "sum": int(found.sum(dtype=np.float64)),
    }
    with contextlib.suppress(NameError):
        list(steps)
    print(json.dumps(taken))


def _peak() -> float:
    """Most memory of this process, in MB: what `getrusage` says counts the process that started it as well."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--delay", type=float, default=0.05)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--cases", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--folder", type=Path, help="where the granules are, or are made and left")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        way, case, form, root, base = given.one
        one(way, case, form, Path(root), base)
        return
    sys.path.insert(0, str(HERE))
    from slow_server import slow_server

    root = given.folder or Path(tempfile.mkdtemp())
    if not (root / "ten").is_dir():
        make(root)
    cores = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{cores}; {given.delay * 1e3:.0f} ms a request; medians of {given.runs}; {dt.date.today()}")
    try:
        with slow_server(root, given.delay) as base:
            for case in given.cases:
                for form in ("hls", "cog") if case not in ("build", "area") else ("hls",):
                    _compare(case, form, root, base, given)
    finally:
        if given.folder is None:
            shutil.rmtree(root)


def _compare(case: str, form: str, root: Path, base: str, given: argparse.Namespace) -> None:
    ways = [way for way in WAYS[case] if (way != "before" or given.before) and (way != "async-tiff" or given.peers)]
    taken: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(given.runs):
        for way in ways:
            path = [str((given.before if way == "before" else HERE).resolve()), str(Path(__file__).parent)]
            path += [str(given.peers)] if way == "async-tiff" else []
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, __file__, "--one", way, case, form, str(root), base]
            said = subprocess.run(command, env=environment, cwd=HERE, capture_output=True, text=True)
            if said.returncode:
                sys.exit(f"{way}: {said.stderr[-2000:]}")
            taken[way].append(json.loads(said.stdout.splitlines()[-1]))
    if len({runs[0]["sum"] for runs in taken.values()}) > 1:
        sys.exit(f"the ways do not read the same: { {way: runs[0]['sum'] for way, runs in taken.items()} }")
    mine = statistics.median(run["seconds"] for run in taken["ours"])
    print(
        f"\n{case}, {form}\n\n| way | s | CPU s | requests | MB | at once | peak MB | times ours |\n" + "|---" * 8 + "|"
    )
    for way, runs in taken.items():
        middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        print(
            f"| {way} | {middle['seconds']:.2f} | {middle['cpu']:.2f} | {middle['requests']:.0f} | {middle['mb']:.1f} "
            f"| {middle['at_once']:.0f} | {middle['peak']:.0f} | {middle['seconds'] / mine:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
