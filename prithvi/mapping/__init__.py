"""Model and scene to files a GIS opens: blended windows, Cloud-Optimized GeoTIFF, polygons, areas by zone."""

from prithvi.mapping.blend import BlendedRows, blend
from prithvi.mapping.fill import FillResult, fill_series, with_model
from prithvi.mapping.maps import MapResult, map_scene
from prithvi.mapping.vectors import class_polygons, vectorise

__all__ = [
    "BlendedRows", "FillResult", "MapResult", "blend", "class_polygons", "fill_series", "map_scene", "vectorise",
    "with_model",
]  # fmt: skip
