"""Model and scene to files a GIS opens: blended windows, Cloud-Optimized GeoTIFF, polygons, areas by zone."""

from prithvi.mapping.blend import BlendedRows, blend
from prithvi.mapping.fill import FillResult, fill_series, with_model
from prithvi.mapping.maps import MapResult, map_scene
from prithvi.mapping.vectors import class_polygons, vectorise
from prithvi.mapping.zones import area_by_zone, write_zones

__all__ = [
    "BlendedRows", "FillResult", "MapResult", "area_by_zone", "blend", "class_polygons", "fill_series", "map_scene",
    "vectorise", "with_model", "write_zones",
]  # fmt: skip
