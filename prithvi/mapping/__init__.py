"""Model and scene to files a GIS opens: blended windows, Cloud-Optimized GeoTIFF, polygons."""

from prithvi.mapping.blend import BlendedRows, blend
from prithvi.mapping.maps import MapResult, map_scene
from prithvi.mapping.vectors import class_polygons, write_polygons

__all__ = ["BlendedRows", "MapResult", "blend", "class_polygons", "map_scene", "write_polygons"]
