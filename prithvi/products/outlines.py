"""Outlines of the areas of a labelled raster, traced with whole arrays.

A corner of an outline is seen in the four pixels that meet at it, so corners are collected strip by strip while the
areas are still incomplete, and become polygons once an area is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from affine import Affine
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from prithvi.products.ellipsoid import Ragged, to_places

Whole = npt.NDArray[np.int32]

RIGHT, BELOW, HOLLOW = 4, 2, 1
"""Bits of a corner's kind: its horizontal side runs to the right, its vertical side runs down, and the quarter between
the two sides lies outside the area."""


@dataclass(frozen=True)
class Corners:
    """Corners of the outlines of areas, in no order; `len` is their number.

    An outline turns by a right angle at each of them, so a corner has one horizontal and one vertical side. Where two
    pixels of an area touch at a point only, the area has two corners.
    """

    area: Whole
    """(n,) number of the area."""
    row: Whole
    """(n,) of the grid lines between pixels, from 0 at the top of the raster."""
    column: Whole
    """(n,) of the grid lines between pixels, from 0 at its left."""
    kind: npt.NDArray[np.uint8]
    """(n,) bits `RIGHT`, `BELOW` and `HOLLOW`."""

    def __len__(self) -> int:
        return len(self.area)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """All corners of several."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*map(Corners._arrays, parts), strict=True)))

    def renumbered(self, numbers: Whole) -> Self:
        """Those of the areas with a number of 0 or more in `numbers` (areas,), under that number."""
        area = numbers[self.area]
        kept = area >= 0
        return type(self)(area[kept], self.row[kept], self.column[kept], self.kind[kept])

    def _arrays(self) -> tuple[npt.NDArray[Any], ...]:
        return self.area, self.row, self.column, self.kind


_NONE = np.zeros(0, np.int32)
NO_CORNERS = Corners(_NONE, _NONE, _NONE, np.zeros(0, np.uint8))


def corners_of(areas: Whole, row: int) -> Corners:
    """The corners on the grid lines between the rows of a strip.

    Args:
        areas: (rows + 1, columns) number of each pixel's area, below 0 for none. Areas are 4-connected.
        row: of the first grid line, which lies between the first two of these rows.

    """
    padded = np.pad(areas, ((0, 0), (1, 1)), constant_values=-1)
    corner = [
        padded[down : len(areas) - 1 + down, across : padded.shape[1] - 1 + across]
        for across in (0, 1)
        for down in (0, 1)
    ]
    # No outline turns where the pixels are equal in pairs side by side (a straight line, or the inside of an area).
    level = (corner[0] == corner[2]) & (corner[1] == corner[3])
    upright = (corner[0] == corner[1]) & (corner[2] == corner[3])
    rows, columns = np.nonzero(~(level | upright))
    four = [pixels[rows, columns] for pixels in corner]
    rows, columns = (rows + row).astype(np.int32), columns.astype(np.int32)
    found = []
    for quarter in range(4):
        # The index of a pixel has the bits RIGHT and BELOW, halved; those of its neighbours differ in one bit or both.
        own, beside, above, across = (four[quarter ^ other] for other in (0, RIGHT // 2, BELOW // 2, 3))
        # An area turns around its only pixel on both sides of a corner, or around a pixel outside it.
        single = (own >= 0) & (own != beside) & (own != above)
        hollow = (beside >= 0) & (beside == above) & (beside == across) & (own != beside)
        for turns, area, bits in ((single, own, 0), (hollow, beside, HOLLOW)):
            kind = np.full(np.count_nonzero(turns), quarter * 2 | bits, dtype=np.uint8)
            found.append(Corners(area[turns], rows[turns], columns[turns], kind))
    return Corners.joined(found)


def rings_of(corners: Corners, number: int, transform: Affine) -> Ragged:
    """The outlines of areas as polygons with holes in map coordinates, without vertices on straight lines.

    Rings run around an area counter-clockwise, and around its holes clockwise, where the first row is the northernmost.

    Args:
        corners: all corners of these areas, which are numbered from 0 on.
        number: of areas.
        transform: affine transform of the raster.

    """
    if number == 0:
        return np.zeros((0, 2)), (np.zeros(1, np.int64), np.zeros(1, np.int64))
    # Along each grid line the corners of an area are, two by two, the ends of the sides of its outline. So sorting
    # finds the corner at the other end of both sides; where two corners of an area share a point, the one whose side
    # has come from the left or from above is first.
    area, row, column = (values.astype(np.int64) for values in (corners.area, corners.row, corners.column))
    right = (corners.kind & RIGHT) // RIGHT
    height, width = int(row.max()) + 1, int(column.max()) + 1
    by_row = np.argsort(((area * height + row) * width + column) * 2 + right)
    area, row, column = area[by_row], row[by_row], column[by_row]
    right, kind = right[by_row], corners.kind[by_row]
    # Two pixels of an area that touch at a point are joined around one of the two pixels between them, since areas are
    # 4-connected. So its outline turns around those, which leaves it without a point that it meets twice.
    touching = np.flatnonzero((np.diff(area) == 0) & (np.diff(row) == 0) & (np.diff(column) == 0))
    kind[[touching, touching + 1]] ^= BELOW | HOLLOW
    below, hollow = (kind & BELOW) // BELOW, kind & HOLLOW
    by_column = np.argsort(((area * width + column) * height + row) * 2 + below)
    # With the area on the left of the direction of travel, the kind of a corner says by which side an outline leaves.
    level = (right ^ below ^ hollow).astype(bool)
    following = np.arange(len(area), dtype=np.int32) ^ 1
    other = np.empty_like(following)
    other[by_column] = by_column.reshape(-1, 2)[:, ::-1].ravel()
    following[~level] = other[~level]
    # The corners that follow each other are cycles. Each is cut before its first corner and the cycles are laid end to
    # end, so that one walk through the chain gives all rings in order. The first corner of an area is on its outside.
    ring = connected_components(_graph(following), connection="strong")[1]
    starts = np.empty(ring.max() + 1, dtype=np.int32)
    starts[ring[::-1]] = np.arange(len(ring), dtype=np.int32)[::-1]
    sizes, first = np.bincount(ring), np.sort(starts)
    ends = np.empty_like(following)
    ends[following] = np.arange(len(following), dtype=np.int32)
    following[ends[first]] = np.roll(first, -1)
    walk = breadth_first_order(_graph(following), 0, return_predecessors=False)
    ends = np.cumsum(sizes[ring[first]])
    closed = np.insert(walk, ends, first)
    places = np.stack(to_places(transform, column[closed], row[closed]), axis=1)
    rings = np.append(0, ends + np.arange(1, len(first) + 1))
    outsides = np.searchsorted(area[first], np.arange(number + 1))
    return places, (rings, outsides)


def _graph(following: Whole) -> csr_array:
    """A directed graph in which each node has one edge, to the node that follows it."""
    count = len(following)
    return csr_array((np.ones(count), following, np.arange(count + 1, dtype=np.int32)), shape=(count, count))
