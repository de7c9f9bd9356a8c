"""The cloud masks of a series that was opened from several sources: those that lie beside these, or were given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from prithvi.errors import ConfigError, SceneError
from prithvi.mapping.maskproducts import product_named
from prithvi.mapping.masks import Mask, clear_of
from prithvi.scenes.names import moments
from prithvi.scenes.opening import open_scene


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
    number, dates = series.sizes["time"], opening["dates"]
    if not masks:
        if product is not None:
            raise ConfigError("--clouds-are says what masks hold, and there are none: give them by --clouds.")
        return None
    if len(sources) == len(masks) == number > 1:
        # Two granules of a day are told apart by the times in their names.
        dates = dates or [open_scene(source, **opening)["time"].values[0] for source in sources]
        times = moments(sources)
        dates = [times.get(source, date) for source, date in zip(sources, dates, strict=True)]
    return read(masks, series, dates=dates, product=product)


def masks_beside(sources: Sequence[str], dates: int) -> list[Mask]:
    """The masks that lie in granule folders (HLS, Landsat, Sentinel-2) or were given among their files.

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
                raise SceneError(f"{source} has several masks ({names}): choose by --clouds.")
        return [masks[0] if masks else None for masks in found]
    every: list[Mask] = [mask for masks in found for mask in masks]
    return every + [None] * (dates - len(every))


def _masks_in(source: Path) -> list[Path]:
    """Masks of a granule's own product: DSWx is made of granules later."""
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    rasters = [file for file in files if file.suffix.lower() in (".tif", ".tiff", ".jp2", ".vrt") and file.is_file()]
    named = [file for file in rasters if product_named(file) not in (None, "dswx_cloud")]
    return named or sorted(source.rglob("*_SCL_20m.jp2") if source.is_dir() else ())
