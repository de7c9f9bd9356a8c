#!/usr/bin/env bash
# mgrs 1.6.0 against Sentinel-2's published tiling grid (in s2tiling 0.1.1): the MGRS square of a place is often no tile.
#
# Guess: the tile that holds a place is its MGRS 100 km square, so that the name that mgrs gives is one of a tile.
# Seen: for 5.6 % of places on Earth it is not, because the list gives a square that two latitude bands share one name,
# and leaves squares at the western edge of a zone to the neighbouring zone's tile, which overlaps them.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet mgrs==1.6.0
"$work/venv/bin/pip" install --quiet --no-deps s2tiling==0.1.1
"$work/venv/bin/python" - <<'PY'
import importlib.metadata
import math
import random
import re
import zipfile

import mgrs

data = next(file for file in importlib.metadata.files("s2tiling") if file.name == "s2_tiling.zip")
with zipfile.ZipFile(data.locate()) as archive:
    text = archive.read(archive.namelist()[0]).decode()
tiles = set(re.findall(r"<name>(\d\d[A-Z]{3})</name>", text))
print("mgrs", importlib.metadata.version("mgrs"), "- s2tiling", importlib.metadata.version("s2tiling"), "-", len(tiles), "tiles")
chance, oracle = random.Random(0), mgrs.MGRS()
squares, lost, places = set(), 0, 20_000
for _ in range(places):
    latitude = math.degrees(math.asin(chance.uniform(math.sin(math.radians(-79)), math.sin(math.radians(83)))))
    square = oracle.toMGRS(latitude, chance.uniform(-180, 180), MGRSPrecision=0)[:5]
    squares.add(square)
    lost += square not in tiles
print(f"{lost} of {places} places ({lost / places:.1%}) and {len(squares - tiles)} of their {len(squares)} squares are no tile; "
      "guessed 0")
for place in ((31.95, 84.2), (60.4, 3.2)):
    found = oracle.toMGRS(*place, MGRSPrecision=0)[:5]
    print(place, found, "is a tile" if found in tiles else "is no tile")
assert len(tiles) == 56_686
assert 0.04 < lost / places < 0.07
PY
