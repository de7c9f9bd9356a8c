"""Published class rasters with known values: which of them are classes, and which mean no data.

OPERA DSWx-HLS (Dynamic Surface Water Extent from HLS): its product specification 1.0 (JPL, 2023), and the provisional
version 0.1 (2022), whose WTR had more classes and 9 for what is masked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prithvi.errors import DatasetError, nearest


@dataclass(frozen=True)
class LabelProduct:
    """One layer of a product."""

    title: str
    classes: dict[int, str]
    """Value to name."""
    ignored: dict[int, str]
    """Values that are no class, and what they say."""


_MASKED = {252: "snow or ice", 253: "cloud or cloud shadow", 254: "ocean", 255: "fill"}
_GRADES = {
    0: "not water", 1: "water, high confidence", 2: "water, moderate confidence", 3: "potential wetland",
    4: "water or wetland, low confidence",
}  # fmt: skip
_OLD = {9: "cloud, shadow or snow", 255: "fill"}
LABEL_PRODUCTS = {
    "dswx-hls": LabelProduct(
        "DSWx-HLS WTR", {0: "not water", 1: "open water", 2: "partial surface water"}, _MASKED
    ),
    "dswx-hls-bwtr": LabelProduct("DSWx-HLS BWTR", {0: "not water", 1: "water"}, _MASKED),
    "dswx-hls-wtr-1": LabelProduct("DSWx-HLS WTR-1", _GRADES, {254: "ocean", 255: "fill"}),
    "dswx-hls-wtr-2": LabelProduct("DSWx-HLS WTR-2", _GRADES, {254: "ocean", 255: "fill"}),
    "dswx-hls-0.1": LabelProduct("DSWx-HLS 0.1 WTR", _GRADES, _OLD),
    "dswx-hls-0.1-bwtr": LabelProduct(
        "DSWx-HLS 0.1 BWTR", {0: "not water", 1: "water"}, {2: "cloud, shadow or snow", 255: "fill"}
    ),
}  # fmt: skip
"""Name, as `--label-product` takes it, to layer."""
_LAYER = re.compile(r"dswx[-_]hls.*?_(?:B\d\d_)?(WTR-[12]|[A-Z]+)$", re.IGNORECASE)


def product_of(path: Path, tags: Mapping[str, str], stated: str | None = None) -> LabelProduct | None:
    """The layer that a file is by its name (OPERA_L3_DSWx-HLS_..._B01_WTR.tif) or its tags; None for other files.

    Args:
        path: the file.
        tags: those of the file; a version below 1 is of the provisional product.
        stated: key of `LABEL_PRODUCTS`, if the caller knows it.

    Raises:
        DatasetError: no product of that name, a file whose name says another layer or one that holds no classes, or
            tags of DSWx-HLS and a name that does not say the layer.

    """
    if stated is not None and stated not in LABEL_PRODUCTS:
        raise DatasetError(f"there is no label product {stated!r}: {nearest(stated, LABEL_PRODUCTS)}")
    match = _LAYER.search(path.stem)
    if match is not None:
        layer = match[1].lower()
        name = "dswx-hls" if layer == "wtr" else f"dswx-hls-{layer}"
        if name not in LABEL_PRODUCTS:
            raise DatasetError(
                f"{path} is the layer {match[1]} of DSWx-HLS, which holds no classes of land or water: give the layer "
                "WTR (..._B01_WTR.tif)."
            )
        if stated is not None and stated.replace("-0.1", "") != name:
            raise DatasetError(f"{path} is {name} by its name, and --label-product says {stated}: leave it out.")
        early = name.replace("dswx-hls", "dswx-hls-0.1")
        if stated is None and tags.get("PRODUCT_VERSION", "").startswith("0.") and early in LABEL_PRODUCTS:
            name = early
        return LABEL_PRODUCTS[stated or name]
    kind = tags.get("PRODUCT_TYPE", "")
    if stated is None and (kind == "DSWx-HLS" or (kind == "DSWx" and tags.get("PRODUCT_SOURCE") == "HLS")):
        raise DatasetError(
            f"{path} is a layer of DSWx-HLS by its tags, and its name does not say which: say --label-product dswx-hls "
            "where it is WTR (B01), dswx-hls-bwtr where it is BWTR (B02)."
        )
    return LABEL_PRODUCTS[stated] if stated is not None else None
