"""What stands beside a map: confidence, probabilities, polygons, zones, a STAC item, a QGIS style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import rasterio
import xarray as xr

from prithvi.errors import ConfigError, nearest
from prithvi.fitted import Mappable
from prithvi.mapping.provenance import Provenance

VECTORS = ("parquet", "gpkg")


@dataclass(frozen=True)
class Products:
    """Which files to write beside a map."""

    confidence: bool = False
    """STEM_confidence.tif: the probability of the chosen class, by the model's fitted temperature."""
    probabilities: str | None = None
    """`uint8` or `float32`: STEM_probabilities.tif, a band a class."""
    polygons: str | None = None
    """`parquet` or `gpkg`: STEM.parquet, the areas of each class."""
    minimum_area: float = 0.0
    """Polygons below it are left out, in square metres."""
    simplify: float = 0.0
    """Distance by which their outlines may be off, in units of the map's CRS."""
    zones: Path | None = None
    """Areas of each class in each feature of this file: STEM_zones.csv and .parquet."""
    item: bool = False
    """STEM.json, a STAC item."""
    style: bool = False
    """STEM.qml for QGIS."""

    @property
    def needs_confidence(self) -> bool:
        """Whether it is computed, to be kept or to be averaged over polygons and zones."""
        return self.confidence or self.polygons is not None or self.zones is not None

    def check(self, model: Mappable) -> None:
        """Whether a model has what they are made of.

        Raises:
            ConfigError: another kind of file, or classes are asked of a model of a quantity.

        """
        for value, options in ((self.probabilities, ("uint8", "float32")), (self.polygons, VECTORS)):
            if value is not None and value not in options:
                raise ConfigError(f"there is no form {value!r}: {nearest(value, options)}")
        if not model.classes:
            for name in ("confidence", "probabilities", "polygons", "zones"):
                if getattr(self, name):
                    raise ConfigError(f"{model.name} predicts a quantity, and {name} are of classes: leave them out.")


def make_beside(
    made: Sequence[Path], folder: Path, wanted: Products, model: Mappable, scene: xr.DataArray, origin: Provenance
) -> tuple[str, ...]:
    """Makes the files beside a map in its folder, and takes away the confidence if nobody asked to keep it.

    Args:
        made: the rasters, the map first.
        folder: where they are going to lie.
        wanted: which files.
        model: that made the map.
        scene: what it was made of.
        origin: what stands in the files.

    Returns:
        What could not be made, and why.

    """
    path, notes = made[0], []
    by_name = {file.stem.removeprefix(path.stem).lstrip("_"): file for file in made}
    confidence = by_name.get("confidence")
    assets = {name: file for name, file in by_name.items() if name}
    if wanted.polygons is not None:
        from prithvi.mapping.vectors import vectorise

        assets["polygons"] = path.with_suffix(f".{wanted.polygons}")
        vectorise(
            path, assets["polygons"], confidence=confidence, minimum_area=wanted.minimum_area,
            simplify=wanted.simplify, provenance=origin,
        )  # fmt: skip
    if wanted.zones is not None:
        from prithvi.mapping.zones import area_by_zone, write_zones

        found = area_by_zone(path, wanted.zones, confidence=confidence)
        write_zones(found, path.with_suffix(""), origin)
        assets["zones"] = path.with_name(f"{path.stem}_zones.parquet")
    if confidence is not None and not wanted.confidence:
        confidence.unlink()
        del assets["confidence"]
    if wanted.style:
        from prithvi.mapping.style import write_style

        unit = model.quantity.unit if model.quantity is not None else ""
        limits = None if model.classes else _range(path)
        assets["style"] = write_style(path, classes=model.classes, limits=limits, unit=unit, provenance=origin)
    if wanted.item:
        from prithvi.mapping.stac import times_of, write_item

        dates = times_of(scene)
        if dates:
            write_item(path, provenance=origin, dates=dates, assets=assets, folder=folder)
        else:
            notes.append("no STAC item was written, since the scene has no date: say --date.")
    return tuple(notes)


def written(path: Path) -> tuple[Path, ...]:
    """The files of a map that are there."""
    ends = (".tif.aux.xml", "_confidence.tif", "_probabilities.tif", ".parquet", ".gpkg", "_zones.csv",
            "_zones.parquet", ".qml", ".json")  # fmt: skip
    beside = (path.with_name(path.stem + end) for end in ends)
    return (path, *(file for file in beside if file.is_file()))


def _range(path: Path) -> tuple[float, float]:
    """What most values of a quantity lie between."""
    with rasterio.open(path) as raster:
        factor = max(1, max(raster.shape) // 1024)
        values = raster.read(1, out_shape=(raster.height // factor, raster.width // factor), masked=True)
    import numpy as np

    known = values.compressed()
    known = known[np.isfinite(known)]
    low, high = np.percentile(known, [2, 98]) if len(known) else (0.0, 1.0)
    return float(low), float(high)
