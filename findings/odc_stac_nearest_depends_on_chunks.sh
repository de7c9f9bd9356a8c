#!/usr/bin/env bash
# Guess: odc.stac.load(..., resampling="nearest") gives a pixel the same value however the result is cut in dask chunks.
# Seen (odc-stac 0.5.3, odc-loader 0.6.5, rasterio 1.4.4): on a grid in degrees, and on one of the next UTM zone, values
# depend on the chunk size; small chunks come nearest to the pixel that each middle lies in. Chunks are warped one by
# one, by GDAL's linear approximation of the transformation, good to an eighth of a pixel.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q odc-stac==0.5.3 odc-loader==0.6.5 odc-geo==0.5.3 rasterio==1.4.4 pystac==1.14.1
cd "$work"
"$work/venv/bin/python" - <<'PY'
import datetime as dt
import os
from importlib.metadata import version

import numpy as np
import odc.stac
import pystac
import rasterio
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.transform import from_origin

at, size = from_origin(600_000, 5_400_000, 30, 30), 300
stored = (np.arange(size)[:, None] * size + np.arange(size)).astype("int32")
profile = dict(driver="GTiff", height=size, width=size, count=1, dtype="int32", crs="EPSG:32631", transform=at)
with rasterio.open("a.tif", "w", **profile) as raster:
    raster.write(stored, 1)
item = pystac.Item("a", None, None, dt.datetime(2022, 1, 1), {
    "proj:code": "EPSG:32631", "proj:shape": [size, size], "proj:transform": list(at)[:6]})
item.stac_extensions.append("https://stac-extensions.github.io/projection/v2.0.0/schema.json")
item.add_asset("b", pystac.Asset(f"{os.getcwd()}/a.tif", media_type=pystac.MediaType.COG, roles=["data"]))
item.collection_id = "c"
kinds = {"c": {"assets": {"b": {"data_type": "int32", "nodata": -1}}}}


def load(grid: GeoBox, chunk: int) -> np.ndarray:
    found = odc.stac.load([item], bands=["b"], geobox=grid, chunks={"x": chunk, "y": chunk}, resampling="nearest",
                          stac_cfg=kinds)
    return found["b"].isel(time=0).values


print("odc-stac", version("odc-stac"), "odc-loader", version("odc-loader"), "rasterio", rasterio.__version__)
own, ok = GeoBox((size, size), at, "EPSG:32631"), True
for code in ("EPSG:4326", "EPSG:32632"):
    grid = own.to_crs(code)
    columns, rows = np.meshgrid(np.arange(grid.shape[1]) + 0.5, np.arange(grid.shape[0]) + 0.5)
    x, y = grid.affine * (columns, rows)
    across, down = ~at * np.array(Transformer.from_crs(code, "EPSG:32631", always_xy=True).transform(x, y))
    i, j = np.floor(down).astype(int), np.floor(across).astype(int)
    inside = (i >= 0) & (j >= 0) & (i < size) & (j < size)
    truth = np.where(inside, stored[i.clip(0, size - 1), j.clip(0, size - 1)], -1)
    wrong = {chunk: int((load(grid, chunk) != truth).sum()) for chunk in (512, 128, 16)}
    print(f"{code}: of {truth.size} pixels, other than the one the middle lies in, by chunk size:", wrong)
    ok = ok and wrong[512] > 10 * max(1, wrong[16])
print("guessed: the same for every chunk size")
raise SystemExit(0 if ok else 1)
PY
