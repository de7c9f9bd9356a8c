#!/usr/bin/env bash
# Which of the stores that zarr-python 3 writes GDAL 3.10 opens, and what it says of the others.
#
# Guess: GDAL 3.10 has a Zarr driver for formats 2 and 3, so that a plain array of format 3 opens as one of format 2 does,
# and a store that it cannot read is refused.
# Seen: no array of format 3 opens ("Unsupported codec: bytes", which is what the final specification calls the codec that
# every array has; shards are no codec of it either), while the folder of such a store opens without an error as a raster
# of 512 x 512 pixels and no band.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "rasterio==1.4.4" "numpy==2.3.5" "zarr==3.1.6"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import rasterio
import zarr

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__, "zarr", zarr.__version__)
pixels = np.arange(4096, dtype="int16").reshape(64, 64)
found = {}
for name, version, more in (("v2", 2, {}), ("v3", 3, {}), ("v3 in shards", 3, {"shards": (64, 64)})):
    group = zarr.open_group(f"{name}.zarr", mode="w", zarr_format=version)
    group.create_array("image", shape=pixels.shape, chunks=(32, 32), dtype="int16", **more)[:] = pixels
    assert (zarr.open_group(f"{name}.zarr", mode="r")["image"][:] == pixels).all()
    try:
        with rasterio.open(f'ZARR:"{name}.zarr":/image') as raster:
            found[name] = str((raster.read(1) == pixels).all())
    except rasterio.errors.RasterioIOError as error:
        found[name] = str(error)
    with rasterio.open(f"{name}.zarr") as raster:
        print(f"{name}: the array: {found[name]}; the folder: {raster.count} bands of {raster.shape} pixels")
        assert (raster.count, raster.shape) == ((1, (64, 64)) if version == 2 else (0, (512, 512)))
assert found["v2"] == "True"
assert "Unsupported codec: bytes" in found["v3"] and "Unsupported codec: sharding_indexed" in found["v3 in shards"]
PY
