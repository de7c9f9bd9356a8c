#!/usr/bin/env bash
# rasterio 1.4.4 (GDAL 3.10.3): what a `with rasterio.Env(GDAL_CACHEMAX=...)` leaves behind.
#
# One would guess: the bound of GDAL's block cache is what it was once the block has ended, as with every other option.
# Seen: that holds where no other Env is around it. Within another one (of the caller's, or of a raster that is open), even
# a plain rasterio.Env(), the bound stays for the rest of the process; ordinary options are taken back in both cases.
# A library that sets it in its functions so changes the process of those who call it within an Env.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "rasterio==1.4.4" "numpy==2.2.6"
"$work/venv/bin/python" - <<'PYTHON'
import rasterio
from rasterio.env import get_gdal_config

BOUND, OTHER = "GDAL_CACHEMAX", "GDAL_TIFF_OVR_BLOCKSIZE"
print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)


def now():
    return int(get_gdal_config(BOUND)), get_gdal_config(OTHER)


with rasterio.Env():
    before = now()
with rasterio.Env(**{BOUND: 16_000_000, OTHER: 256}):
    assert now() == (16_000_000, 256), now()
alone = now()
print("alone: before", before, "after", alone)
with rasterio.Env():
    with rasterio.Env(**{BOUND: 16_000_000, OTHER: 256}):
        pass
    within = now()
end = now()
print("within another: after", within, "and at the end", end)
assert alone == before, "the outermost leaves something behind: this has changed"
assert within == end == (16_000_000, before[1]), "the inner one takes its bound back: this has changed"
PYTHON
