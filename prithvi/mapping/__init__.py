"""Model and scene to files a GIS opens, or to arrays: maps, filled series, embeddings."""

from prithvi.mapping.accessor import PrithviAccessor
from prithvi.mapping.class_maps import MapResult, map, map_scene
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

__all__ = [
    "BlendedRows", "CompositeResult", "FillResult", "MapResult", "PrithviAccessor", "Products", "Provenance",
    "area_by_zone", "blend", "class_polygons", "clear_of", "composite", "composite_series", "embed", "embed_scene",
    "fill", "fill_series", "map", "map_item", "map_scene", "mappable", "mappable_module", "ranks_of", "times_of",
    "vectorise", "with_model", "write_item", "write_style", "write_zones",
]  # fmt: skip
