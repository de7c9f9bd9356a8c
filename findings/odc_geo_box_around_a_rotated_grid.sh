#!/usr/bin/env bash
# GeoBox.boundingbox of odc-geo for a grid that is rotated against its CRS, as airborne and some commercial scenes are.
#
# Guess: the box that holds all four corners, as `extent.boundingbox` does.
# Seen: odc-geo 0.4.10 takes the first and the last corner alone, so that the two others lie outside, by 5 km here with a scene of
# 10 km, while `extent.boundingbox` of the same object holds all. 0.5.0 gives the right one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cd "$folder"
for version in 0.4.10 0.5.0; do
    "$folder/venv/bin/pip" install -q "odc-geo==$version" "numpy==2.2.6" "shapely==2.1.1" "affine==2.4.0" "pyproj==3.7.2"
    "$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

from affine import Affine
from odc.geo.geobox import GeoBox

place = Affine.translation(600_000, 4_200_000) * Affine.rotation(30) * Affine.scale(10, -10)
grid = GeoBox((1000, 1000), place, "EPSG:32630")
corners = [place * corner for corner in ((0, 0), (1000, 0), (1000, 1000), (0, 1000))]
true = (min(x for x, _ in corners), min(y for _, y in corners), max(x for x, _ in corners), max(y for _, y in corners))


def apart(box):
    return max(abs(one - other) for one, other in zip((box.left, box.bottom, box.right, box.top), true))


old = version("odc-geo").startswith("0.4.")
print("odc-geo", version("odc-geo"), "boundingbox is off by", round(apart(grid.boundingbox)), "m, extent's by",
      round(apart(grid.extent.boundingbox)))
assert apart(grid.extent.boundingbox) < 1
assert (apart(grid.boundingbox) > 1000) == old, "the box has changed"
PY
done
