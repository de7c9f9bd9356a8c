"""Model and scene to files a GIS opens: blended windows, Cloud-Optimized GeoTIFF, polygons."""

from prithvi.mapping.blend import BlendedRows, blend
from prithvi.mapping.fill import FillResult, fill_series, with_model
from prithvi.mapping.maps import MapResult, map_scene
from prithvi.mapping.stac import map_item, times_of, write_item
from prithvi.mapping.style import write_style
from prithvi.mapping.vectors import class_polygons, write_polygons

__all__ = [
    "BlendedRows", "FillResult", "MapResult", "blend", "class_polygons", "fill_series", "map_item", "map_scene",
    "times_of", "with_model", "write_item", "write_polygons", "write_style",
]  # fmt: skip
