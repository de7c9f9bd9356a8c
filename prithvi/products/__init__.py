"""Products derived from a finished map: polygons, areas by zone, a STAC item, a QGIS style and its provenance."""
