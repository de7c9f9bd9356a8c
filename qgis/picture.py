"""Draws a scene and its map side by side in QGIS, without a window: docs/images/qgis_map.png.

    prithvi map water SCENE -o maps --sensor sentinel-2-l1c --date 2019-09-13
    QT_QPA_PLATFORM=offscreen /usr/bin/python3 qgis/picture.py SCENE maps/SCENE.tif docs/images/qgis_map.png

SCENE is a copy of data_catalog/sen1floods11/samples/S2Hand/Spain_7370579_S2Hand.tif, since QGIS leaves statistics
beside it. The styles are those that the plugin puts on; the legend is QGIS's own.
"""

from __future__ import annotations

import sys

from prithvi_qgis.layers import Style, StyleBeside, three_bands
from qgis.core import (
    QgsApplication,
    QgsLayout,
    QgsLayoutExporter,
    QgsLayoutItemLegend,
    QgsLayoutItemMap,
    QgsLayoutPoint,
    QgsLayoutSize,
    QgsProject,
    QgsRasterLayer,
)

SIDE, GAP = 90.0, 3.0  # mm


class Sentinel(Style):
    """Bands 4, 3, 2 of a Sentinel-2 file of 13 bands, without names."""

    def put_on(self, layer: QgsRasterLayer) -> None:
        """Red, green and blue."""
        three_bands(layer, [4, 3, 2], [(500.0, 2500.0)] * 3)


def main(scene: str, made: str, picture: str) -> None:
    """Draws both."""
    application = QgsApplication([], False)
    application.initQgis()
    project = QgsProject.instance()
    layout = QgsLayout(project)
    layout.initializeDefaults()
    layout.pageCollection().page(0).setPageSize(QgsLayoutSize(2 * SIDE + GAP + 64, SIDE))
    layers = [QgsRasterLayer(scene, "Sentinel-2"), QgsRasterLayer(made, "prithvi map water")]
    for number, (layer, style) in enumerate(zip(layers, (Sentinel(), StyleBeside()), strict=True)):
        style.put_on(layer)
        project.addMapLayer(layer, addToLegend=number == 1)
        item = QgsLayoutItemMap(layout)
        item.attemptMove(QgsLayoutPoint(number * (SIDE + GAP), 0))
        item.attemptResize(QgsLayoutSize(SIDE, SIDE))
        item.setLayers([layer])
        item.setCrs(layer.crs())
        item.setExtent(layer.extent())
        layout.addLayoutItem(item)
    legend = QgsLayoutItemLegend(layout)
    legend.attemptMove(QgsLayoutPoint(2 * SIDE + GAP, 0))
    layout.addLayoutItem(legend)
    settings = QgsLayoutExporter.ImageExportSettings()
    settings.dpi = 90
    QgsLayoutExporter(layout).exportToImage(picture, settings)
    application.exitQgis()


if __name__ == "__main__":
    main(*sys.argv[1:])
