#!/usr/bin/env bash
# rasterio silences a warning of its own (NotGeoreferencedWarning, of the arrays it wraps) inside rasterio.warp.reproject
# and rasterio.features.rasterize.
# Guess: a call that is silent on one thread is silent on eight.
# Seen (rasterio 1.4.4): it is not. The silence is `warnings.catch_warnings`, which changes the filters of the whole
# process; threads put back one another's filters, and some calls warn of arrays that have their transform. Where warnings
# are errors, such a call fails.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet rasterio==1.4.4 numpy==2.2.6
cat > "$work/see.py" <<'PYTHON'
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import rasterio
from affine import Affine
from rasterio.warp import reproject

at = Affine(30, 0, 600_000, 0, -30, 5_000_000)
source = np.ones((64, 64), np.uint8)


def call(_: int) -> None:
    reproject(
        source, np.zeros_like(source), src_transform=at, src_crs="EPSG:32631", dst_transform=at, dst_crs="EPSG:32632"
    )


def warned(threads: int, seconds: float) -> tuple[int, int]:
    calls, end = 0, time.monotonic() + seconds
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with ThreadPoolExecutor(threads) as pool:
            while time.monotonic() < end and not seen:
                list(pool.map(call, range(200)))
                calls += 200
    return len(seen), calls


print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
print("guess: 0 warnings on 1 thread, 0 on 8")
one, many = warned(1, 5), warned(8, 120)
print(f"seen: {one[0]} in {one[1]} calls on 1 thread, {many[0]} in {many[1]} calls on 8")
sys.exit(0 if one[0] == 0 and many[0] > 0 else 1)
PYTHON
"$work/venv/bin/python" "$work/see.py"
