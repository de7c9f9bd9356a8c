#!/usr/bin/env bash
# Opening a valid STAC item with rio-tiler's STACReader, whose band facts have no statistics.
#
# Guess: nothing is said; statistics are optional in STAC's raster extension and in its own bands.
# Seen: for every asset with raster:bands or bands "UserWarning: Some statistics data in STAC are invalid, they will be
# ignored", where there are none. Pixels are right. With statistics in every band the warning is gone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "rio-tiler==9.4.12" "pystac==1.15.2" "rasterio==1.4.4" "numpy==2.3.5"
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import copy
import json
import warnings
from importlib.metadata import version

import numpy as np
import rasterio
from rio_tiler.io import STACReader

for name in ("rio-tiler", "pystac", "rasterio"):
    print(name, version(name))
place = rasterio.transform.from_origin(500000, 4000000, 10, 10)
classes = np.random.default_rng(0).integers(0, 3, (64, 64)).astype("uint8")
profile = {"driver": "GTiff", "count": 1, "height": 64, "width": 64, "dtype": "uint8", "crs": "EPSG:32631", "nodata": 255}
with rasterio.open("map.tif", "w", transform=place, **profile) as raster:
    raster.write(classes, 1)
band = {"name": "class", "data_type": "uint8", "nodata": 255}
outline = [[3.0, 36.1], [3.1, 36.1], [3.1, 36.2], [3.0, 36.2], [3.0, 36.1]]
item = {
    "type": "Feature", "stac_version": "1.1.0", "id": "map", "bbox": [3.0, 36.1, 3.1, 36.2], "links": [],
    "stac_extensions": ["https://stac-extensions.github.io/raster/v1.1.0/schema.json"],
    "geometry": {"type": "Polygon", "coordinates": [outline]}, "properties": {"datetime": "2022-05-31T00:00:00Z"},
    "assets": {"classes": {"href": "./map.tif", "type": "image/tiff; application=geotiff", "raster:bands": [band]}},
}


def warned(name, asset):
    made = copy.deepcopy(item)
    made["assets"]["classes"] = {"href": "./map.tif", "type": "image/tiff; application=geotiff", **asset}
    with open(f"{name}.json", "w") as file:
        json.dump(made, file)
    with warnings.catch_warnings(record=True) as seen, STACReader(f"{name}.json") as reader:
        warnings.simplefilter("always")
        image = reader.preview(assets=["classes"])
    assert (image.array.data[0] == classes).all()
    said = [str(one.message) for one in seen if "statistics" in str(one.message)]
    print(f"{name}: {said or 'nothing is said'}")
    return bool(said)


assert not warned("no_bands", {}), "changed: an asset without band facts is warned of"
assert warned("raster_bands", {"raster:bands": [band]}), "changed: nothing is said of raster:bands without statistics"
assert warned("bands", {"bands": [band]}), "changed: nothing is said of bands without statistics"
known = {**band, "statistics": {"minimum": 0, "maximum": 2}}
assert not warned("with_statistics", {"raster:bands": [known]}), "changed: statistics that are there are warned of"
PY
