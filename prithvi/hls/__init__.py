"""What HLS is: granule names, Fmask bits, MGRS tiles; granules found, fetched, and read as one lazy Dataset."""

from prithvi.hls.download import get
from prithvi.hls.fmask import good
from prithvi.hls.granules import Granule
from prithvi.hls.items import asset_href, granule_items, read_items, table, write_items
from prithvi.hls.loading import load
from prithvi.hls.search import search
from prithvi.hls.tiles import tile_footprints, tile_grid, tiles_in

__all__ = [
    "Granule", "asset_href", "get", "good", "granule_items", "load", "read_items", "search", "table", "tile_footprints",
    "tile_grid", "tiles_in", "write_items",
]  # fmt: skip
