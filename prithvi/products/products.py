"""The products that go with a map: confidence, probabilities, polygons, zones, a STAC item, a QGIS style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import xarray as xr

from prithvi.errors import ConfigError, SceneError, nearest
from prithvi.modelio.predictor import Mappable
from prithvi.products.provenance import Provenance
from prithvi.scenes import transform_of

VECTORS = ("parquet", "gpkg")


@dataclass(frozen=True)
class Products:
    """The products to write beside a map."""

    confidence: bool = False
    """Write STEM_confidence.tif: probability of the predicted class, after temperature scaling."""
    probabilities: str | None = None
    """`uint8` or `float32`: write STEM_probabilities.tif of this data type, one band per class."""
    polygons: str | None = None
    """`parquet` or `gpkg`: write STEM.parquet or STEM.gpkg, polygons of the classes."""
    minimum_area: float = 0.0
    """Smallest polygon in square metres."""
    simplify: float = 0.0
    """Simplification tolerance of polygons in metres."""
    zones: Path | None = None
    """Vector file of zones: write STEM_zones.csv and STEM_zones.parquet, the area of each class in each zone."""
    item: bool = False
    """Write STEM.json, a STAC item."""
    style: bool = False
    """Write STEM.qml, a QGIS style."""

    @property
    def needs_confidence(self) -> bool:
        """Whether confidences must be computed, as a product or to be averaged over polygons and zones."""
        return self.confidence or self.polygons is not None or self.zones is not None

    def check(self, model: Mappable, scene: xr.DataArray) -> None:
        """Checks that these products can be made of a model and a scene, before a long run rather than after it.

        Raises:
            ConfigError: an unknown format, or class products requested of a regression model.
            DatasetError: the zones cannot be read.
            SceneError: zones requested of a rotated scene.

        """
        for value, options in ((self.probabilities, ("uint8", "float32")), (self.polygons, VECTORS)):
            if value is not None and value not in options:
                raise ConfigError(f"there is no form {value!r}: {nearest(value, options)}")
        if not model.classes:
            for name in ("confidence", "probabilities", "polygons", "zones"):
                if getattr(self, name):
                    raise ConfigError(f"{model.name} predicts a quantity, and {name} are of classes: leave them out.")
        if self.zones is not None:
            from prithvi.products.vectorfiles import read_places

            read_places(self.zones, "zones")
            turn = transform_of(scene)
            if turn.b or turn.d or turn.a < 0:
                raise SceneError(
                    f"{scene.attrs.get('source', 'the scene')} is rotated; areas by zone need rows that run east: warp "
                    "it first (gdalwarp)."
                )

    def files(self, path: Path, model: Mappable, dated: bool) -> tuple[Path, ...]:
        """Paths of the products of a map, its .aux.xml sidecar included.

        Args:
            path: path of the map.
            model: the model that makes the map.
            dated: whether the scene has a date, which a STAC item needs.

        """
        ends = {
            "_confidence.tif": self.confidence, "_probabilities.tif": self.probabilities is not None,
            f".{self.polygons}": self.polygons is not None, "_zones.csv": self.zones is not None,
            "_zones.parquet": self.zones is not None, ".qml": self.style, ".json": self.item and dated,
        }  # fmt: skip
        beside = [path.with_name(path.stem + end) for end, wanted in ends.items() if wanted]
        return (*([path.with_name(f"{path.name}.aux.xml")] if model.classes else []), *beside)


def write_products(
    made: Sequence[Path], folder: Path, wanted: Products, model: Mappable, scene: xr.DataArray, origin: Provenance
) -> tuple[str, ...]:
    """Writes the requested products beside a map, and deletes the confidence raster unless it was requested.

    Args:
        made: the rasters so far, the map first.
        folder: final folder of the products.
        wanted: the products to write.
        model: the model that made the map.
        scene: the scene that was mapped.
        origin: provenance to record in each file.

    Returns:
        Notes on products that could not be made, with the reason.

    """
    # Everything is made in the work folder beside the rasters. Polygons and zones average the confidence raster, so it
    # exists for them even if it is not a requested product, and is deleted after they are done.
    path, notes = made[0], []
    by_name = {file.stem.removeprefix(path.stem).lstrip("_"): file for file in made}
    confidence = by_name.get("confidence")
    assets = {name: file for name, file in by_name.items() if name}
    if wanted.polygons is not None:
        from prithvi.products.class_polygons import vectorise

        assets["polygons"] = path.with_suffix(f".{wanted.polygons}")
        vectorise(
            path, assets["polygons"], confidence=confidence, minimum_area=wanted.minimum_area,
            simplify=wanted.simplify, provenance=origin,
        )  # fmt: skip
    if wanted.zones is not None:
        from prithvi.products.zones import area_by_zone, write_zones

        found = area_by_zone(path, wanted.zones, confidence=confidence)
        write_zones(found, path.with_suffix(""), origin)
        assets["zones"] = path.with_name(f"{path.stem}_zones.parquet")
    if confidence is not None and not wanted.confidence:
        confidence.unlink()
        del assets["confidence"]
    if wanted.style:
        from prithvi.products.qml import write_style

        unit = model.quantity.unit if model.quantity is not None else ""
        limits = None if model.classes else _range(path)
        assets["style"] = write_style(path, classes=model.classes, limits=limits, unit=unit, provenance=origin)
    if wanted.item:
        from prithvi.products.map_item import times_of, write_item

        dates = times_of(scene)
        if dates:
            write_item(path, provenance=origin, dates=dates, assets=assets, folder=folder)
        else:
            notes.append("no STAC item was written, since the scene has no date: say --date.")
    return tuple(notes)


def _range(path: Path) -> tuple[float, float]:
    """Colour limits of a quantity: its 2nd and 98th percentiles, or a small range above a constant value."""
    with rasterio.open(path) as raster:
        # A decimated read of at most 1024 pixels a side is enough for percentiles, and bounds time and memory.
        shape = [max(1, size * 1024 // max(1024, *raster.shape)) for size in raster.shape]
        values = raster.read(1, out_shape=tuple(shape), masked=True)
    known = values.compressed()
    known = known[np.isfinite(known)].astype(float)
    if len(known) == 0:
        return 0.0, 1.0
    low, high = np.percentile(known, [2, 98])
    if low == high:
        low, high = known.min(), known.max()
    return float(low), float(high) if high > low else float(low) + max(1.0, 1e-3 * abs(float(low)))
