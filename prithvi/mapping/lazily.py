"""Answers of a scene as arrays: at once where its pixels are in memory, row by row through Dask where they are lazy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.delayed import delayed

from prithvi.windows import WindowPlan

ROWS = 1024
"""Rows of a lazy array's blocks, about: one row of windows is computed twice at every border."""

Values = Mapping[str, npt.NDArray[Any]]
Run = Callable[[npt.NDArray[Any], WindowPlan, slice, int], Values]
"""The pixels (time, band, rows, width) of some rows of the scene, windows over them, the rows to answer for (counted in
scores from the first of the pixels), and the scene's row of the first: to the named values (..., rows, width)."""


@dataclass(frozen=True)
class Form:
    """One of the answers, without its last two dimensions."""

    shape: tuple[int, ...]
    dtype: str


def in_rows(
    scene: xr.DataArray, plan: WindowPlan, run: Run, forms: Mapping[str, Form], cell: int = 1
) -> dict[str, Any]:
    """Named arrays (..., rows, width), numpy or dask as the scene's own.

    Args:
        scene: (time, band, y, x).
        plan: windows over it.
        run: how some rows are answered for; it travels to Dask's workers.
        forms: the answers by name.
        cell: pixels along the side of one answer.

    """
    height, width = -(-scene.sizes["y"] // cell), -(-scene.sizes["x"] // cell)
    if scene.chunks is None:
        return dict(run(scene.values, plan, slice(0, height), 0))
    step = max(1, ROWS // cell)
    blocks: dict[str, list[Any]] = {name: [] for name in forms}
    work = delayed(run, pure=False, traverse=False)
    for first in range(0, height, step):
        last = min(first + step, height)
        part, rows, _ = plan.over(slice(first * cell, last * cell), slice(0, width * cell))
        rows = slice(rows.start, min(rows.stop, scene.sizes["y"]))
        above = rows.start // cell
        values = work(scene.isel(y=rows).data, part, slice(first - above, last - above), rows.start)
        for name, form in forms.items():
            shape = (*form.shape, last - first, width)
            blocks[name].append(da.from_delayed(values[name], shape, np.dtype(form.dtype)))
    return {name: da.concatenate(parts, axis=-2) for name, parts in blocks.items()}
