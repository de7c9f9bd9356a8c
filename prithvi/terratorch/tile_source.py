"""A scene as the source of TerraTorch's `tiled_inference`: tiles are read when they are asked for.

TerraTorch asks for the tiles along the right edge first, then for those along the bottom, then for all others row by
row. Rows are therefore read in two strips of memory, one as wide as the scene and one as wide as the right tiles, each
of which moves down and reads each row once on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module, metadata
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor

from prithvi.contract import Contract
from prithvi.errors import ConfigError, SceneError, needs
from prithvi.mapping.sliding_window import SLAB, Pixels, ReadRows, rows_of
from prithvi.models.standardise import Standardise
from prithvi.process import settings_kept
from prithvi.scenes import conform
from prithvi.scenes.block_cache import room_for
from prithvi.scenes.pixels import cache_bytes
from prithvi.scenes.validity import Tally

FIRST = "1.2.12"
"""The first TerraTorch whose tiled inference takes a source and a sink."""


def require_tiles() -> None:
    """Raises ConfigError where TerraTorch knows no sources and sinks, MissingExtraError where there is none."""
    with needs("a source or a sink of tiles", "terratorch"), settings_kept():
        theirs = import_module("terratorch.tasks.tiled_inference")
    if not hasattr(theirs, "TileSource"):
        raise ConfigError(
            f"TerraTorch {metadata.version('terratorch')} takes neither a source nor a sink of tiles, which needs "
            f"{FIRST} or later: pip install 'terratorch>={FIRST}' (from Python 3.12), or map with prithvi.map."
        )


class Placeholder(Tensor):
    """A scene's size where TerraTorch wants an `input_batch`; there are no pixels in it.

    It lets itself be padded and cut, for which nothing is allocated, and remembers the padding. Whatever else is done
    with it would be done with pixels, and is refused.
    """

    margin: int
    """Pixels that were padded at each side."""
    padding: str
    """How: as in `torch.nn.functional.pad`."""

    @classmethod
    def of(cls, shape: Sequence[int], margin: int = 0, padding: str = "") -> Placeholder:
        """A placeholder of (1, band, y, x) or (1, band, T, y, x)."""
        found = torch.zeros(()).expand(*shape).as_subclass(cls)
        found.margin, found.padding = margin, padding
        return found

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, options = func.__name__, kwargs or {}
        if name == "pad":
            image, sides = args[:2]
            left, right, top, bottom = sides[:4]
            *outer, height, width = image.shape
            mode = str(options.get("mode", "constant"))
            return cls.of((*outer, height + top + bottom, width + left + right), left, mode)
        if name not in ("__get__", "__getitem__", "cpu", "size", "dim", "__repr__"):
            raise ConfigError(
                f"a model was handed the placeholder of a scene of {args[0].shape[-2]} x {args[0].shape[-1]} pixels. "
                "TerraTorch does so where a scene fits into one crop, past source and sink: choose a smaller crop, or "
                "map this scene with prithvi.map."
            )
        found = super().__torch_function__(func, types, tuple(args), options)  # type: ignore[no-untyped-call]
        if isinstance(found, Placeholder):
            found.margin, found.padding = args[0].margin, args[0].padding
        return found


def place_of(tile: Any) -> tuple[slice, slice]:
    """Rows and columns of the scene that a tile shows; with padding they go beyond its edges.

    Args:
        tile: an `InferenceInput` of TerraTorch. Its `input_coords` are those of what is kept of the tile, without the
            borders that `output_crop` cuts off, and count from the edge of the padded image.

    Raises:
        ConfigError: it was not cut from `CogSource.image`.

    """
    cut = tile.input_data
    if not isinstance(cut, Placeholder):
        raise ConfigError("the second argument of tiled_inference has to be source.image, which tells it the size.")
    trimmed = tile.output_crop or (slice(0, None), slice(0, None))
    starts = [kept.start - inside.start - cut.margin for kept, inside in zip(tile.input_coords, trimmed, strict=True)]
    down, along = (slice(start, start + size) for start, size in zip(starts, cut.shape[-2:], strict=True))
    return down, along


class CogSource:
    """See `cog_source`.

    Attributes:
        image: what `tiled_inference` takes as `input_batch`.
        scene: (time, band, y, x) the scene with the contract's bands.
        tally: counts pixels that are treated as nodata because they cannot be reflectance.

    """

    def __init__(self, scene: xr.DataArray, contract: Contract, accept: Sequence[str] = ()) -> None:
        require_tiles()
        self.scene, self.contract = conform(scene, contract, accept), contract
        sizes = self.scene.sizes
        self.size = sizes["y"], sizes["x"]
        dates = (sizes["time"],) if sizes["time"] > 1 else ()
        self.image = Placeholder.of((1, sizes["band"], *dates, *self.size))
        self.tally = Tally(sizes["time"], sizes["y"])
        self._standardise = Standardise(contract)
        self._whole = Strip(self._noting_data(rows_of(self.scene, contract, self.tally)))
        self._right: tuple[int, Strip] | None = None
        # Where there is data: a bit a pixel.
        self._bits = np.zeros((self.size[0], -(-self.size[1] // 8)), np.uint8)
        self._known = np.zeros(self.size[0], bool)

    def __call__(self, tile: Any) -> Tensor:
        """(band, y, x) float32 standardised pixels of a tile, of several dates (band, T, y, x).

        Raises:
            ConfigError: the tile was not cut from `image`, or a kind of padding that needs the opposite edge.
            SceneError: the scene is smaller than a tile.

        """
        down, along = place_of(tile)
        margin, padding = tile.input_data.margin, tile.input_data.padding
        for name, part, size in (("high", down, self.size[0]), ("wide", along, self.size[1])):
            if part.start < -margin:
                raise SceneError(f"the scene is {size} pixels {name}, less than a tile: choose a smaller crop.")
        rows, columns = (_padded(part, size, padding) for part, size in zip((down, along), self.size, strict=True))
        first, last = int(rows.min()), int(rows.max()) + 1
        if along.stop >= self.size[1]:
            left, strip = self._right_strip(int(columns.min()))
        else:
            left, strip = 0, self._whole
        # By itself GDAL would keep file blocks in a twentieth of all memory; see prithvi.mapping.engine.write.
        with room_for(min(4_000_000 + cache_bytes(self.scene), 1_000_000_000)):
            pixels = strip.rows(first, last)
        found = pixels[:, :, (rows - first)[:, None], (columns - left)[None]]
        images = self._standardise(torch.from_numpy(found).transpose(0, 1)[None])[0]
        return cast(Tensor, images if images.shape[1] > 1 else images[:, 0])

    def valid(self, first: int, last: int) -> npt.NDArray[np.bool_]:
        """(rows, width) where all bands have data on at least one date."""
        for top in range(first, last, SLAB):
            if not self._known[top : min(top + SLAB, last)].all():
                self._whole.read(top, min(top + SLAB, last))
        bits = np.unpackbits(self._bits[first:last], axis=1, count=self.size[1])
        return bits.view(bool)

    def _noting_data(self, read: ReadRows) -> ReadRows:
        """Reads rows of the whole width, and notes where they have data."""

        def rows(first: int, last: int) -> Pixels:
            found = _whole_pixels(read(first, last))
            self._bits[first:last] = np.packbits(np.isfinite(found[:, 0]).any(axis=0), axis=1)
            self._known[first:last] = True
            return found

        return rows

    def _right_strip(self, left: int) -> tuple[int, Strip]:
        """The strip of the tiles along the right edge, and the column it begins with."""
        if self._right is None or self._right[0] != left:
            read = rows_of(self.scene.isel(x=slice(left, None)), self.contract)
            self._right = left, Strip(lambda first, last: _whole_pixels(read(first, last)))
        return self._right


def cog_source(scene: xr.DataArray, contract: Contract, accept: Sequence[str] = ()) -> CogSource:
    """A scene as the `source` of TerraTorch's `tiled_inference`, which reads tiles when they are asked for.

    Memory holds a row of tiles and a bit for each pixel of the scene, never its pixels. Tiles are standardised by the
    contract; a pixel that lacks a band on a date has the contract's nodata value in all of them.

    Args:
        scene: what `prithvi.open_scene` gives: a COG, or any other raster or series.
        contract: bands in the model's order, units, mean and std; `prithvi.load(checkpoint).contract` of a fine-tune
            of TerraTorch's.
        accept: see `prithvi.scenes.conform`.

    Returns:
        The source. Its `image` is what `tiled_inference` takes as `input_batch`: the size, without pixels.

    Raises:
        ConfigError: TerraTorch is older than 1.2.12.
        MissingExtraError: there is no TerraTorch.
        BandError, ScaleError, SceneError: the scene does not fit the contract.

    """
    return CogSource(scene, contract, accept)


class Strip:
    """Rows of pixels that move down a scene; what two successive windows share is read once."""

    def __init__(self, read: ReadRows) -> None:
        self.read = read
        self.top = self.bottom = 0
        self.held: Pixels = np.empty((0, 0, 0, 0), np.float32)

    def rows(self, first: int, last: int) -> Pixels:
        """(T, band, rows, width) pixels, to be used before the next call."""
        if not self.top <= first <= self.bottom:
            self.top = self.bottom = first
        kept, moved = self.bottom - first, first - self.top
        for top in range(self.bottom, last, SLAB):
            part = self.read(top, min(top + SLAB, last))
            if self.held.shape[2] < last - first:  # the first time, and where tiles grow
                grown = np.empty((*part.shape[:2], last - first, part.shape[3]), np.float32)
                grown[:, :, :kept] = self.held[:, :, moved : moved + kept] if kept else 0
                self.held, moved = grown, 0
            if moved:
                for plane in self.held.reshape(-1, *self.held.shape[2:]):
                    plane[:kept] = plane[moved : moved + kept]
                moved = 0
            self.held[:, :, kept : kept + part.shape[2]] = part
            kept += part.shape[2]
        self.top, self.bottom = first - moved, first + kept
        return self.held[:, :, moved : moved + last - first]


def _whole_pixels(pixels: Pixels) -> Pixels:
    """(T, band, y, x) pixels with NaN in all bands where one has no data."""
    missing = ~np.isfinite(pixels).all(axis=1, keepdims=True)
    return np.where(missing, np.float32(np.nan), pixels) if missing.any() else pixels


def _padded(part: slice, size: int, mode: str) -> npt.NDArray[np.intp]:
    """Which row or column of a scene stands at each place of a tile."""
    places = np.arange(part.start, part.stop)
    if part.start < 0 or part.stop > size:
        if mode == "reflect":
            places = size - 1 - np.abs(size - 1 - np.abs(places))
        elif mode == "replicate":
            places = places.clip(0, size - 1)
        else:
            raise ConfigError(f"the padding {mode!r} is not read from files: say reflect, replicate or False.")
    return places
