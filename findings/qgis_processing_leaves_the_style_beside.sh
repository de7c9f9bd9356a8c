#!/usr/bin/env bash
# Which style a raster has that a Processing algorithm wrote, where a .qml of its name lies beside it.
#
# Guess: QGIS takes NAME.qml for NAME.tif whoever opens it, as it does for a layer that is opened by hand; so an algorithm
# need only write the style beside its result.
# Seen: a layer that Processing loads when an algorithm has ended ignores the .qml and is grey; the same file opened as a
# layer has the style. An algorithm has to put it on itself, in a layer post-processor.
#
# Needs the QGIS of the system with its Python (seen with 3.22.16, Debian: qgis, python3-qgis), since no package index
# has it.
set -euo pipefail
if ! /usr/bin/python3 -c "import qgis.core" 2>/dev/null; then
    echo "needs QGIS with its Python for /usr/bin/python3 (Debian: qgis, python3-qgis)"
    exit 2
fi
wanted="qgis==3.22.16+dfsg-1"
found="qgis==$(dpkg-query -W -f '${Version}' qgis)"
if [ "$found" != "$wanted" ]; then
    echo "seen with $wanted, and this is $found"
    exit 2
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export HOME="$folder" QT_QPA_PLATFORM=offscreen QGIS_CUSTOM_CONFIG_PATH="$folder/profile" XDG_RUNTIME_DIR="$folder"
/usr/bin/python3 - 2>/dev/null <<'PY'
import sys

from qgis.core import Qgis, QgsApplication, QgsPalettedRasterRenderer, QgsProject, QgsRasterLayer
from qgis.PyQt.QtGui import QColor

app = QgsApplication([], False)
app.initQgis()
sys.path.append(app.pkgDataPath() + "/python/plugins")
import processing
from processing.core.Processing import Processing

Processing.initialize()
wanted = {
    "EXTENT": "0,10,0,10 [EPSG:32631]", "TARGET_CRS": "EPSG:32631", "PIXEL_SIZE": 1, "NUMBER": 1, "OUTPUT_TYPE": 0,
    "OUTPUT": "classes.tif",
}
processing.run("native:createconstantrasterlayer", wanted)
layer = QgsRasterLayer("classes.tif", "classes")
water = QgsPalettedRasterRenderer.Class(1, QColor("#2166ac"), "water")
layer.setRenderer(QgsPalettedRasterRenderer(layer.dataProvider(), 1, [water]))
layer.saveNamedStyle("classes.qml")

processing.runAndLoadResults("native:createconstantrasterlayer", wanted)
(loaded,) = QgsProject.instance().mapLayers().values()
opened = QgsRasterLayer("classes.tif", "classes")
print("QGIS", Qgis.QGIS_VERSION)
print("loaded by Processing:", loaded.renderer().type())
print("opened as a layer:", opened.renderer().type())
sys.stdout.flush()
assert (loaded.renderer().type(), opened.renderer().type()) == ("singlebandgray", "paletted")
PY
