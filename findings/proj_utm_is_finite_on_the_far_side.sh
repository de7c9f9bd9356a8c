#!/usr/bin/env bash
# What PROJ gives for places a quarter and half a world away from a UTM zone.
#
# Guess: infinite coordinates, by which one tells what lies outside the projection: they are checked, and a polygon without any is
# sound.
# Seen: infinity only in a small region about 90 degrees from the zone's meridian near the equator. Everywhere else coordinates
# are finite, and on the far side northings go on beyond the pole (the antipode lies at 19,996 km), so that they lead back
# to the same place. A zone's part far away folds over the map instead of falling out: the world's outline is all
# finite and crosses itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "pyproj==3.7.2" "shapely==2.1.2" "numpy==2.3.5"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import pyproj
import shapely
from pyproj import Transformer

print("pyproj", pyproj.__version__, "PROJ", pyproj.proj_version_str, "shapely", shapely.__version__)
to, back = (Transformer.from_crs(*pair, always_xy=True) for pair in ((4326, 32630), (32630, 4326)))
lon, lat = np.meshgrid(np.arange(-180.0, 180, 2), np.arange(-88.0, 89, 2))
x, y = to.transform(lon, lat)
finite = np.isfinite(x) & np.isfinite(y)
far = np.abs((lon + 3 + 180) % 360 - 180)  # degrees from the zone's meridian, 3 W
for least, most in ((0, 60), (60, 80), (80, 100), (100, 181)):
    ring = (far >= least) & (far < most)
    print(f"{least} to {most} degrees from the meridian: {finite[ring].mean():.1%} finite")
    if least != 80:
        assert finite[ring].all() or least == 60, "changed: other places are infinite"
assert not finite[far > 80].all()
antipode = to.transform(177.0, 0.0)
print("177 E on the equator:", antipode, "and back", back.transform(*antipode))
assert antipode[1] > 19_000_000 and np.allclose(back.transform(*antipode), (177, 0), atol=1e-6), "changed: the antipode"
world = shapely.box(-180, -90, 180, 90).segmentize(1)
outline = shapely.transform(world, lambda xy: np.column_stack(to.transform(xy[:, 0], xy[:, 1])))
print("the world's outline: all finite", bool(np.isfinite(shapely.get_coordinates(outline)).all()), "valid", outline.is_valid)
assert np.isfinite(shapely.get_coordinates(outline)).all() and not outline.is_valid, "changed: the world's outline"
PY
