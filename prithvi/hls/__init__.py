"""What HLS is: granule names, Fmask bits; granules found, fetched, and read as one lazy Dataset."""

from prithvi.hls.download import get
from prithvi.hls.granules import Granule, good
from prithvi.hls.items import asset_href, granule_items, read_items, table, write_items
from prithvi.hls.loading import load
from prithvi.hls.search import search

__all__ = [
    "Granule", "asset_href", "get", "good", "granule_items", "load", "read_items", "search", "table", "write_items",
]  # fmt: skip
