#!/usr/bin/env bash
# Whether rioxarray finds the CRS and transform of a Zarr group whose attributes follow the released GeoZarr conventions.
#
# Guess: rioxarray 0.23, which reads and writes the conventions proj and spatial, finds them: both are told by their UUID.
# Seen: it looks for the names "proj:" and "spatial:" of the drafts. The releases v0.1, whose schemas fix the names "proj"
# and "spatial" (and which zarr-cm 0.5 writes and validates), are passed over without a word: no CRS, and a transform of 1.
# With the drafts' names the same attributes are found.
set -euo pipefail
for python in python3.13 python3.12; do
    "$python" -c "" 2>/dev/null && break
done
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "rioxarray==0.23.0" "xarray==2026.9.0" "zarr==3.4.2" "zarr-cm==0.5.0" "rasterio==1.5.2"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import rioxarray
import xarray as xr
from zarr_cm import proj, spatial

attrs = proj.insert({}, proj.create(code="EPSG:32630"))
place = {"dimensions": ["y", "x"], "transform": [30.0, 0.0, 600000.0, 0.0, -30.0, 4200000.0], "shape": [64, 64]}
attrs = spatial.insert(attrs, spatial.create(**place))
names = {"proj": "proj:", "spatial": "spatial:"}
drafts = {**attrs, "zarr_conventions": [{**e, "name": names[e["name"]]} for e in attrs["zarr_conventions"]]}
found = {}
for name, given in (("released", attrs), ("drafts", drafts)):
    xr.Dataset({"image": (("y", "x"), np.ones((64, 64), "int16"))}, attrs=given).to_zarr(f"{name}.zarr")
    store = xr.open_zarr(f"{name}.zarr", decode_coords="all")
    found[name] = store.rio.crs and store.rio.crs.to_epsg(), store.rio.transform()[:3]
    spatial.validate_group_metadata({"zarr_format": 3, "node_type": "group", "attributes": dict(store.attrs)})
    print(f"rioxarray {rioxarray.__version__}, names as {name}:", found[name])
assert found == {"released": (None, (1.0, 0.0, 0.0)), "drafts": (32630, (30.0, 0.0, 600000.0))}
PY
