"""A Cloud-Optimized GeoTIFF as the sink of TerraTorch's `tiled_inference`: tiles are blended while they come in.

Tiles along the right and the bottom edge come first (see `tile_source.py`) and are held until their rows' turn. All
others come row by row: what lies above a row of tiles is final when its first tile comes, and goes to the file. Each
pixel is the same sum in the same order as in TerraTorch's own memory, so that scores are equal bit by bit.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from prithvi import windows
from prithvi.contract import Quantity
from prithvi.errors import ConfigError, one_of
from prithvi.files import refuse_overwrite
from prithvi.mapping.class_maps import MapRun
from prithvi.mapping.cog import RasterWriter, check_geotiff
from prithvi.mapping.engine import Target
from prithvi.mapping.inference import mappable_module
from prithvi.mapping.result_files import map_rasters
from prithvi.mapping.score_values import values_of
from prithvi.mapping.sliding_window import BlendedRows
from prithvi.modelio.predictor import ClassEntry
from prithvi.products.provenance import Provenance, identity
from prithvi.scenes.conform import units_of
from prithvi.terratorch.tile_source import CogSource, place_of


@dataclass(frozen=True)
class _Tile:
    """Scores that wait for their rows' turn."""

    rows: slice
    columns: slice
    scores: Tensor
    """(class, y, x)."""
    weights: Tensor
    """(y, x)."""


class CogSink:
    """See `cog_sink`.

    Attributes:
        path: the map; it is there once `finalize` was called.

    """

    def __init__(
        self,
        path: str | Path,
        like: CogSource,
        classes: Sequence[str | ClassEntry] = (),
        quantity: Quantity | None = None,
        confidence: bool = False,
        probabilities: str | None = None,
        average_patches: bool = True,
        name: str = "TerraTorch model",
    ) -> None:
        self.path, self.source, self.average = check_geotiff(path), like, average_patches
        if bool(classes) == (quantity is not None):
            raise ConfigError("a map is of classes= or of a quantity=: say one of them.")
        if quantity is not None and (confidence or probabilities):
            raise ConfigError("a quantity has no confidence and no probabilities: leave them out.")
        if probabilities is not None:
            one_of(probabilities, ("uint8", "float32"), "probabilities are not written as")
        self.size, self.asked = like.size, (confidence, probabilities is not None)
        self.model = mappable_module(nn.Identity(), like.contract, classes=classes, quantity=quantity, name=name)
        self.origin = Provenance.of(self.model, like.scene, "prithvi.terratorch.cog_sink")
        target = Target.whole(like.scene, windows.plan(*self.size, min(self.size)))
        result = MapRun(self.model, self.origin, confidence=confidence, probabilities=self.asked[1]).outputs(target)
        self.rasters = map_rasters(result, self.path, confidence, probabilities)
        refuse_overwrite([self.path.parent / raster.name for raster in self.rasters], identity(like.scene)["states"])
        # Rows of the sums; those above are written.
        self.top = self.bottom = 0
        self._waiting: list[_Tile] = []
        self._sums = self._weights = torch.empty(0)
        self._writer: RasterWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes what is not finished; nothing stands under the final name unless `finalize` was called."""
        if self._writer is not None:
            self._end()
        self._writer, self._waiting = None, []

    def write(self, tile: Any, prediction: Tensor) -> None:
        """Takes the scores of a tile.

        Args:
            tile: an `InferenceInput` of TerraTorch.
            prediction: (class, y, x) scores before the softmax, or (1, y, x) or (y, x) of a quantity.

        Raises:
            ConfigError: tiles of another image or in another order than TerraTorch's.
            ModelError: another number of scores than there are classes.
            OutputError: the file cannot be written.

        """
        shown, margin = place_of(tile)[0], tile.input_data.margin
        rows, columns = (slice(part.start - margin, part.stop - margin) for part in tile.input_coords)
        scores = prediction if prediction.ndim == 3 else prediction[None]
        if tile.output_crop is not None:
            scores = scores[..., tile.output_crop[0], tile.output_crop[1]]
        found = _Tile(rows, columns, scores, tile.blend_mask)
        at_edge = rows.stop == self.size[0] or columns.stop == self.size[1]
        if tile.batch or rows.start < (self.bottom if at_edge else self.top):
            raise ConfigError(
                f"a tile of the rows {rows.start} to {rows.stop} came when the map was made down to row {self.top} of "
                f"{self.size[0]}: a sink takes the tiles of one tiled_inference over one scene, in TerraTorch's order."
            )
        if self._writer is None:
            self._begin(len(scores), tile.input_data.shape[-2])
        if at_edge:
            # A prediction is a view into that of its whole batch, which would wait with it.
            self._waiting.append(replace(found, scores=scores.clone()))
        else:
            self._move(shown.start)
            self._add(found, 0, len(self._weights))

    def finalize(self) -> None:
        """Writes the rest, and puts the files under their names.

        Raises:
            ConfigError: no tile came, or the tiles leave pixels out.
            OutputError: the files cannot be written.

        """
        if self._writer is None:
            raise ConfigError(f"{self.path} is not written: no tile came.")
        self._move(self.size[0])
        left_out = self.source.tally.sentence(*units_of(self.source.scene, self.source.contract))
        self._writer.tag(replace(self.origin, left_out=left_out).tags())
        self._writer.publish()
        self.close()

    def _begin(self, number: int, height: int) -> None:
        """Opens the files, and makes sums of as many rows as a tile has."""
        self._writer = RasterWriter(self.path.parent, self.source.scene, self.rasters)
        self._end = weakref.finalize(self, self._writer.__exit__, None, None, None)
        self._sums = torch.zeros(number, height, self.size[1])
        self._weights = torch.zeros(height, self.size[1])

    def _move(self, to: int) -> None:
        """Writes the rows above `to`, which no later tile adds to, and makes room below."""
        height = len(self._weights)
        self._take_up()
        while self.top < to:
            done = min(to - self.top, height)
            self._write_rows(done)
            for sums in (*self._sums, self._weights):
                sums[: height - done] = sums[done:].clone()
                sums[height - done :] = 0
            self.top += done
            self._take_up()
            self._waiting = [tile for tile in self._waiting if tile.rows.stop > self.top]

    def _take_up(self) -> None:
        """Adds what waited for rows that are new in the sums."""
        height = len(self._weights)
        for tile in self._waiting:
            self._add(tile, self.bottom - self.top, height)
        self.bottom = self.top + height

    def _add(self, tile: _Tile, first: int, last: int) -> None:
        """Adds the scores of a tile to some rows of the sums."""
        start, stop = max(tile.rows.start - self.top, first), min(tile.rows.stop - self.top, last)
        if start >= stop:
            return
        above = self.top - tile.rows.start
        inside, weights = slice(start + above, stop + above), tile.weights[start + above : stop + above]
        part = self._sums[:, start:stop, tile.columns]
        if self.average:
            part += tile.scores[:, inside] * weights
        else:
            part[:] = tile.scores[:, inside]
        self._weights[start:stop, tile.columns] += weights

    def _write_rows(self, number: int) -> None:
        assert self._writer is not None
        number = min(number, self.size[0] - self.top)
        sums, weights = self._sums[:, :number], self._weights[:number]
        empty = (weights == 0).any(dim=1).numpy()
        if empty.any():
            row = self.top + int(np.argmax(empty))
            raise ConfigError(
                f"no tile of TerraTorch's covers all of row {row} of {self.size[0]}: choose another stride or crop."
            )
        scores = sums / weights if self.average else sums
        rows = BlendedRows(self.top, scores, self.source.valid(self.top, self.top + number))
        self._writer.write(values_of(self.model, rows, *self.asked))


def cog_sink(
    path: str | Path,
    like: CogSource,
    *,
    classes: Sequence[str | ClassEntry] = (),
    quantity: Quantity | None = None,
    confidence: bool = False,
    probabilities: str | None = None,
    average_patches: bool = True,
    name: str = "TerraTorch model",
) -> CogSink:
    """A Cloud-Optimized GeoTIFF as the `sink` of TerraTorch's `tiled_inference`.

    Overlapping tiles are averaged by the weights that TerraTorch gives each of them, in its own order: the classes are
    those of its own way in memory. Memory holds the scores of a row of tiles, and of the tiles along the right and the
    bottom edge, which TerraTorch predicts first. Pixels without data stay without: 255, NaN in floats.

    Args:
        path: the file to write; it appears when it is whole, and an older one stays until then.
        like: the source of the tiles: what place the map has, and where there is data.
        classes: in the order of the model's outputs, by name or with colours.
        quantity: what it predicts instead of classes; the map has value = output x std + mean.
        confidence: write the probability of the chosen class to `NAME_confidence.tif`.
        probabilities: `uint8` or `float32` to write those of every class to `NAME_probabilities.tif`.
        average_patches: as given to `tiled_inference`, which does not tell its sink.
        name: of the model in the files' tags.

    Returns:
        The sink, for one call of `tiled_inference`. As a context manager it removes what an error leaves behind.

    Raises:
        ConfigError: neither classes nor a quantity, or both; a path that is no GeoTIFF or is the scene itself.

    """
    return CogSink(path, like, classes, quantity, confidence, probabilities, average_patches, name)
