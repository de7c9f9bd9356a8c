"""The cloud masks of a series that was opened from several sources: those that lie beside these, were given, or are
made of the series itself by a network.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from prithvi.errors import ConfigError, MissingExtraError, SceneError
from prithvi.mapping.maskproducts import MASK_PRODUCTS, product_named
from prithvi.mapping.masks import Mask, clear_of, level_of, masks_in_order
from prithvi.scenes.info import name_of
from prithvi.scenes.names import days_of, moments
from prithvi.scenes.opening import open_scene
from prithvi.scenes.paths import local_path
from prithvi.scenes.stac_items import read_stac

AUTO = "auto"
"""Instead of masks: those that lie beside the sources, and for dates without one what a network makes."""


def is_auto(clouds: Sequence[Any] | None, product: str | None) -> bool:
    """Whether masks are to be found or made.

    Raises:
        ConfigError: masks are given beside that, or what they are.

    """
    if AUTO not in (clouds or ()):
        return False
    if len(clouds or ()) > 1:
        raise ConfigError(f"--clouds {AUTO} finds the masks of all dates: leave the others out, or {AUTO}.")
    if product is not None:
        raise ConfigError(f"--clouds-are says what your own masks hold, and --clouds {AUTO} knows it: leave one out.")
    return True


@dataclass(frozen=True)
class Clouds:
    """How scenes are masked, each of them alone: by masks of its dates, or `AUTO`."""

    masks: tuple[str, ...] = (AUTO,)
    """In the order of the dates, `none` for one without."""
    product: str | None = None

    def __post_init__(self) -> None:
        is_auto(self.masks, self.product)

    @property
    def auto(self) -> bool:
        """Whether masks are found or made."""
        return self.masks == (AUTO,)

    def refuse(self, sources: Sequence[str], scene: xr.DataArray, opening: Mapping[str, Any]) -> None:
        """Refuses what `clear_of` would, before torch is imported; see `refuse_unmaskable`."""
        if self.auto and None in masks_by_date(sources, scene, opening):
            refuse_unmaskable(scene)

    def clear_of(
        self,
        sources: Sequence[str],
        scene: xr.DataArray,
        opening: Mapping[str, Any],
        path: Path,
        options: Mapping[str, Any],
    ) -> xr.DataArray | None:
        """Where a scene is clear; masks that are made lie beside its map.

        Args:
            sources: what the scene was opened from.
            scene: what `prithvi.open_scene` gives for them.
            opening: how, see `clear_of_sources`.
            path: of the map.
            options: of `prithvi.map_scene`, of which masks that are made follow some.

        Raises:
            SceneError, BandError, ScaleError, MissingExtraError: see `masks_for` and `clear_of`.

        """
        if self.auto:
            kept = {name: options[name] for name in ("resume", "command") if name in options}
            return clear_of(masks_for(sources, scene, opening, path.parent, path.stem, **kept), scene)
        masks = [None if mask == "none" else mask for mask in self.masks]
        return clear_of_sources(sources, scene, masks, self.product, opening)


def clear_of_sources(
    sources: Sequence[str],
    series: xr.DataArray,
    masks: Sequence[Mask],
    product: str | None,
    opening: Mapping[str, Any],
    read: Callable[..., xr.DataArray] = clear_of,
) -> xr.DataArray | None:
    """`clear_of` for a series that was opened from several sources, whose masks are in the order of these.

    Args:
        sources: files or granule folders.
        series: what `prithvi.open_scene` gives for them: its dates are in the order of time.
        masks: a raster for each source, None for one without.
        product: see `clear_of`.
        opening: how the sources are opened, see `prithvi.open_scene`; with the day of each where these do not state it.
        read: `clear_of` or `ranks_of`.

    Returns:
        What `clear_of` gives; None where there is no mask.

    Raises:
        SceneError: see `clear_of`.
        ConfigError: a product is named, and there are no masks.

    """
    if not masks:
        if product is not None:
            raise ConfigError("--clouds-are says what masks hold, and there are none: give them by --clouds.")
        return None
    return read(masks, series, dates=_dates_of(sources, series, masks, opening), product=product)


def _dates_of(
    sources: Sequence[str], series: xr.DataArray, masks: Sequence[Mask], opening: Mapping[str, Any]
) -> Sequence[Any] | None:
    """The date of each mask, of as many sources as there are; None leaves it to their names and order."""
    dates: Sequence[Any] | None = opening.get("dates")
    if len(sources) == len(masks) == series.sizes["time"] > 1:
        # Two granules of a day are told apart by the times in their names.
        dates = dates or [open_scene(source, **opening)["time"].values[0] for source in sources]
        times = moments(sources)
        dates = [times.get(source, date) for source, date in zip(sources, dates, strict=True)]
    return dates


def masks_by_date(
    sources: Sequence[str], series: xr.DataArray, opening: Mapping[str, Any], given: Sequence[Mask] = ()
) -> list[Path | None]:
    """The mask for each date of the series, in its order, of those that are given, or else lie beside the sources; None
    for one without.

    Raises:
        SceneError: see `masks_beside` and `clear_of`.

    """
    masks = list(given) or masks_beside(sources, series.sizes["time"])
    if not masks:
        return [None] * series.sizes["time"]
    return masks_in_order(masks, series, _dates_of(sources, series, masks, opening))


def masks_for(
    sources: Sequence[str],
    series: xr.DataArray,
    opening: Mapping[str, Any],
    folder: Path,
    stem: str = "",
    **options: Any,
) -> list[Path]:
    """A mask for each date of the series, in its order: that beside the sources, else one that a network makes.

    Args:
        sources: what the series was opened from.
        series: what `prithvi.open_scene` gives for them.
        opening: how, see `clear_of_sources`.
        folder: where masks are made, see `mask_name`.
        stem: see `mask_name`.
        options: of `prithvi.mapping.mask_scene`.

    Raises:
        MissingExtraError: a date has no mask, and the networks are not installed.
        SceneError, BandError, ScaleError: see `clear_of` and `mask_scene`.

    """
    found = masks_by_date(sources, series, opening)
    if None in found:
        refuse_unmaskable(series)
    made: list[Path] = []
    for place, mask in enumerate(found):
        if mask is None:
            from prithvi.mapping.cloud_masks import mask_scene

            mask = mask_scene(series.isel(time=[place]), folder / mask_name(series, place, stem), **options).path
        made.append(mask)
    return made


def refuse_unmaskable(series: xr.DataArray) -> None:
    """Refuses a series without masks that no network can look at, before torch is imported.

    Raises:
        MissingExtraError: the networks are not installed.
        SceneError: their level is not known.

    """
    if any(importlib.util.find_spec(name) is None for name in ("ukis_csmask", "onnxruntime")):
        beside = ", ".join(MASK_PRODUCTS[name].title for name in ("fmask", "scl", "qa_pixel"))
        raise MissingExtraError(f"{name_of(series)} has no mask beside it ({beside}), and finding clouds", "clouds")
    level_of(series)


def mask_name(series: xr.DataArray, place: int, stem: str = "") -> str:
    """What the file of a date's mask is called: STEM_clouds.tif, of several dates DATE_STEM_clouds.tif."""
    from prithvi.mapping.result_files import date_labels

    words = [stem, "clouds.tif"] if stem else ["clouds.tif"]
    if series.sizes["time"] > 1:  # before the stem, which may be a granule's name and state the day of one of them
        words.insert(0, date_labels(series)[place] if days_of(series) is not None else str(place + 1))
    return "_".join(words)


def masks_beside(sources: Sequence[str], dates: int) -> list[Mask]:
    """The masks in granule folders (HLS, Landsat, Sentinel-2), of local STAC items, or among the files that were given.

    What is on a server is not looked for.

    Args:
        sources: what a series is opened from.
        dates: how many it has. As many sources have a mask each, or None.

    Returns:
        As many as there are dates, None where there is no mask for one; empty where there is none at all.

    Raises:
        SceneError: a source has several masks of a date.

    """
    found = [_masks_in(Path(source)) for source in sources]
    if not any(found):
        return []
    if len(sources) == dates:
        for source, masks in zip(sources, found, strict=True):
            if len(masks) > 1:
                names = ", ".join(mask.name for mask in masks)
                raise SceneError(f"{source} has several masks ({names}): take it by itself, and choose by --clouds.")
        return [masks[0] if masks else None for masks in found]
    every: list[Mask] = [mask for masks in found for mask in masks]
    return every + [None] * (dates - len(every))


def _masks_in(source: Path) -> list[Path]:
    """Masks of a granule's own product: DSWx is made of granules later."""
    files = _files_of(source)
    rasters = [file for file in files if file.suffix.lower() in (".tif", ".tiff", ".jp2", ".vrt") and file.is_file()]
    named = [file for file in rasters if product_named(file) not in (None, "dswx_cloud")]
    return named or sorted(source.rglob("*_SCL_20m.jp2") if source.is_dir() else ())


def _files_of(source: Path) -> list[Path]:
    """The files of a folder, or those that the STAC items in a file name and that are on this machine."""
    if source.is_dir():
        return sorted(source.iterdir())
    if source.suffix.lower() not in (".json", ".geojson") or not source.is_file():
        return [source]
    assets = [asset for item in read_stac(source) for asset in item.assets.values()]
    paths = [local_path(asset.get_absolute_href() or asset.href) for asset in assets]
    return [path for path in paths if path is not None]
