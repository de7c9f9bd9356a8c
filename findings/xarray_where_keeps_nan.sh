#!/usr/bin/env bash
# xarray: where() keeps the pixels whose mask is NaN, and boolean masks get NaN where their grids differ by a hair.
# One would guess: two masks whose x differ by 1e-9 m give a boolean stack of four columns (or an error), and a pixel
# that no mask knows is hidden.
# Seen (xarray 2026.9.0): concat joins outer, with a FutureWarning about the default of join: five columns, float64, NaN
# where a mask had no such x; where() takes NaN for true, so that what no mask knows counts as clear.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "xarray==2026.9.0" "numpy==2.3.5" "pandas==2.3.3"
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import numpy as np
import xarray as xr

print("xarray", xr.__version__)
warnings.simplefilter("ignore", FutureWarning)
x = np.arange(4) * 30.0
first = xr.DataArray([True, False, True, False], dims="x", coords={"x": x})
second = first.assign_coords(x=x + [0, 1e-9, 0, 0])
masks = xr.concat([first, second], dim="time")
print("guessed: bool (2, 4); seen:", masks.dtype, masks.shape, masks.values.tolist())
assert masks.dtype == "float64" and masks.shape == (2, 5)
image = xr.DataArray(np.ones((2, 5)), dims=("time", "x"))
kept = image.where(masks.drop_vars("x")).notnull().values
unknown = np.isnan(masks.values)
print("guessed: a pixel with the mask NaN is hidden; seen:", kept[unknown].tolist(), "for kept")
assert unknown.sum() == 2 and kept[unknown].all()
PYTHON
