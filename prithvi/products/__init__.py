"""A finished map to what goes with it: polygons, areas by zone, a STAC item, a QGIS style, and where it comes from."""
