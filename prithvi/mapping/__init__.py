"""Model and scene to files a GIS opens, or to arrays: maps, filled series, embeddings."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from prithvi.mapping.accessor import PrithviAccessor

if TYPE_CHECKING:
    from prithvi.mapping.class_maps import MapResult, map, map_scene
    from prithvi.mapping.cloud_masks import mask_scene
    from prithvi.mapping.composites import CompositeResult, composite, composite_series
    from prithvi.mapping.embeddings import embed, embed_scene
    from prithvi.mapping.fillers import with_model
    from prithvi.mapping.gap_filling import fill
    from prithvi.mapping.inference import mappable, mappable_module
    from prithvi.mapping.masks import clear_of, ranks_of
    from prithvi.mapping.series_files import FillResult, fill_series
    from prithvi.mapping.sliding_window import BlendedRows, blend
    from prithvi.products.class_polygons import class_polygons, vectorise
    from prithvi.products.map_item import map_item, times_of, write_item
    from prithvi.products.products import Products, write_style
    from prithvi.products.provenance import Provenance
    from prithvi.products.zones import area_by_zone, write_zones

_NAMES = {
    "mapping.class_maps": ("MapResult", "map", "map_scene"),
    "mapping.cloud_masks": ("mask_scene",),
    "mapping.composites": ("CompositeResult", "composite", "composite_series"),
    "mapping.embeddings": ("embed", "embed_scene"),
    "mapping.fillers": ("with_model",),
    "mapping.gap_filling": ("fill",),
    "mapping.inference": ("mappable", "mappable_module"),
    "mapping.masks": ("clear_of", "ranks_of"),
    "mapping.series_files": ("FillResult", "fill_series"),
    "mapping.sliding_window": ("BlendedRows", "blend"),
    "products.class_polygons": ("class_polygons", "vectorise"),
    "products.map_item": ("map_item", "times_of", "write_item"),
    "products.products": ("Products", "write_style"),
    "products.provenance": ("Provenance",),
    "products.zones": ("area_by_zone", "write_zones"),
}
"""Names by module, which is imported when one is first used, so that a map does not wait for what fills a series."""

__all__ = [
    "BlendedRows", "CompositeResult", "FillResult", "MapResult", "PrithviAccessor", "Products", "Provenance",
    "area_by_zone", "blend", "class_polygons", "clear_of", "composite", "composite_series", "embed", "embed_scene",
    "fill", "fill_series", "map", "map_item", "map_scene", "mappable", "mappable_module", "mask_scene", "ranks_of",
    "times_of", "vectorise", "with_model", "write_item", "write_style", "write_zones",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    for module, names in _NAMES.items():
        if name in names:
            return getattr(importlib.import_module(f"prithvi.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
