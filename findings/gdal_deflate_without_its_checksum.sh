#!/usr/bin/env bash
# Whether a byte that changed in a tile of a GeoTIFF is noticed, by the compression of the tile.
#
# Guess: a deflate tile is a zlib stream, which ends with an Adler-32 of its content, so that a changed byte is an error when
# the tile is read; zstd has frames with checksums as well, so that it is the same there.
# Seen: of deflate tiles about one changed byte in eight gives other pixels without an error or warning: no more is unpacked
# than the tile holds, and the end of the stream is not reached. zstd frames are written without a checksum: nearly every
# changed byte gives other pixels. LERC_ZSTD notices all, as LERC has a checksum of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "rasterio==1.4.4" "numpy==2.2.6"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
import random
import zlib
from pathlib import Path

import numpy as np
import rasterio

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
values = (np.random.default_rng(0).random((6, 80, 64)).cumsum(2) * 100).astype("int16")
place = rasterio.transform.from_origin(600000, 5000000, 30, 30)
profile = {"driver": "GTiff", "count": 6, "height": 80, "width": 64, "dtype": "int16", "crs": "EPSG:32631", "transform": place}
path, unnoticed = Path("a.tif"), {}
for compress in ("deflate", "zstd", "lerc_zstd"):
    with rasterio.open(path, "w", **profile, compress=compress) as raster:
        raster.write(values)
    whole, chance, unnoticed[compress] = path.read_bytes(), random.Random(0), 0
    for _ in range(300):
        at = int(len(whole) * chance.uniform(0.35, 0.95))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ chance.randint(1, 255)]) + whole[at + 1 :])
        try:
            with rasterio.open(path) as raster:
                unnoticed[compress] += bool((raster.read() != values).any())
        except rasterio.errors.RasterioError:
            pass
print("changed bytes of 300 that gave other pixels without an error:", unnoticed)

# zlib itself notices each of them.
packed, chance = zlib.compress(values.tobytes()), random.Random(0)
passed = 0
for _ in range(300):
    at = chance.randrange(10, len(packed) - 4)
    try:
        zlib.decompress(packed[:at] + bytes([packed[at] ^ chance.randint(1, 255)]) + packed[at + 1 :])
        passed += 1
    except zlib.error:
        pass
print("zlib:", passed)
assert 10 < unnoticed["deflate"] < 100 and unnoticed["zstd"] > 250 and unnoticed["lerc_zstd"] == 0 and passed == 0
PY
