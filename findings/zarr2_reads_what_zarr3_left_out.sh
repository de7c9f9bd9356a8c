#!/usr/bin/env bash
# What zarr-python 2 reads of a store of format 2 that xarray wrote with zarr-python 3.
#
# Guess: the same numbers, since it is the older one's own format.
# Seen: zarr-python 3 writes no chunk whose values are all 0, and xarray states no fill value for integers (null). For
# zarr-python 2 such a chunk has no defined value: it gives whatever lay in memory. The one date of a time axis is such a
# chunk (0 days since itself): it came out as a random number, or as a date that cannot be decoded.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/new"
"$folder/new/bin/pip" install -q "zarr==3.1.6" "xarray==2025.9.0" "numpy==2.3.5"
python3 -m venv "$folder/old"
"$folder/old/bin/pip" install -q "zarr==2.18.7" "numcodecs==0.15.1" "numpy==2.3.5"
cd "$folder"
new/bin/python -W ignore - <<'PY'
import json
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

one = xr.DataArray(np.ones((1, 4)), dims=("time", "x"), coords={"time": np.array(["2022-05-31"], "datetime64[ns]")})
one.to_dataset(name="image").to_zarr("store.zarr", zarr_format=2)
print("zarr", zarr.__version__, "reads", zarr.open_group("store.zarr", mode="r")["time"][:])
chunks = [file.name for file in Path("store.zarr/time").iterdir() if not file.name.startswith(".")]
assert (json.loads(Path("store.zarr/time/.zarray").read_text())["fill_value"], chunks) == (None, [])
PY
old/bin/python -W ignore - <<'PY'
import numpy as np
import zarr

time = zarr.open_group("store.zarr", mode="r")["time"]
found = set()
for number in range(1, 50):
    np.full(1, number * 1000)  # leaves its number in the memory that the next small array gets
    found.add(int(time[:][0]))
print("zarr", zarr.__version__, "reads", sorted(found)[:5], "...")
assert found != {0}
PY
