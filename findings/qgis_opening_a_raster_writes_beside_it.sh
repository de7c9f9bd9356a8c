#!/usr/bin/env bash
# What QGIS leaves beside a raster of several bands that it only looks at.
#
# Guess: an algorithm that tells a raster's properties (native:rasterlayerproperties: extent, size, bands) leaves the
# raster's folder as it was; statistics are written by what asks for statistics.
# Seen: opening the layer is enough: QGIS computes histograms for the default stretch of three bands, and they stay
# beside the file as NAME.tif.aux.xml. So does every algorithm with a raster parameter in qgis_process, also one that
# hands the name on to another program.
#
# Needs the QGIS of the system (seen with 3.22.16, Debian: qgis, python3-qgis), since no package index has it.
set -euo pipefail
if ! /usr/bin/python3 -c "import qgis.core" 2>/dev/null; then
    echo "needs QGIS with its Python for /usr/bin/python3 (Debian: qgis, python3-qgis)"
    exit 2
fi
program=$(command -v qgis_process.bin || command -v qgis_process)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "rasterio==1.4.3" "numpy==2.3.5"
cd "$folder"
export HOME="$folder" QT_QPA_PLATFORM=offscreen QGIS_CUSTOM_CONFIG_PATH="$folder/profile" XDG_RUNTIME_DIR="$folder"
mkdir scenes
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import rasterio

pixels = np.random.default_rng(0).integers(200, 3000, (6, 256, 256), np.int16)
place = rasterio.transform.from_origin(600_000, 4_200_000, 10, 10)
shape = dict(driver="GTiff", count=6, height=256, width=256, dtype="int16", crs="EPSG:32630", transform=place)
with rasterio.open("scenes/scene.tif", "w", **shape) as raster:
    raster.write(pixels)
PY
"$program" --version 2>/dev/null | head -1
echo "before: $(ls scenes)"
"$program" run native:rasterlayerproperties -- INPUT=scenes/scene.tif 2>/dev/null | grep BAND_COUNT || true
echo "after: $(ls scenes | tr '\n' ' ')"
test -f scenes/scene.tif.aux.xml
grep -q "<Histograms>" scenes/scene.tif.aux.xml
