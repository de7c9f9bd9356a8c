#!/usr/bin/env bash
# Where does one row of a rotated grid lie, by odc-geo's own coordinates?
# One would guess: where the row lies in the whole (its transform moved by that many rows).
# Seen with odc-geo 0.5.3: the missing step between rows is taken from the written transform, in metres, and multiplied
# by that transform again: the pixel becomes 30 times as long as it is, and the row lies somewhere else.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "odc-geo==0.5.3" "xarray==2025.12.0" "numpy<3"
"$work/venv/bin/python" - <<'PYTHON'
import numpy as np
import odc.geo
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr

at = Affine.translation(600_000, 3_600_000) @ Affine.rotation(20) @ Affine.scale(30, -30)
array = wrap_xr(np.zeros((64, 80)), GeoBox((64, 80), at, "EPSG:32615"))
print("odc-geo", odc.geo.__version__)
for rows, name in ((slice(5, 9), "four rows"), (slice(5, 6), "one row")):
    found = array[rows].odc.geobox.affine
    right = found.almost_equals(at @ Affine.translation(0, 5), precision=1e-6)
    print(f"{name}: its height per row is {np.hypot(found.b, found.e):.1f} m, as it should be: {right}")
    assert right == (name == "four rows")
PYTHON
