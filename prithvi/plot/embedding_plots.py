"""Plots of embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from prithvi.errors import SceneError
from prithvi.plot.pictures import having, thinned
from prithvi.plot.places import draw, ground_of, one

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def embedding(
    result: xr.Dataset | xr.DataArray, ax: Axes | None = None, *, step: int = 0, ticks: bool = False, bar: bool = True
) -> Axes:
    """Draws the first three principal components of embeddings as red, green and blue.

    Similar colours mean similar embeddings. Components are computed over all time steps of a result, so colours are
    comparable between its steps, but not between results.

    Args:
        result: a result of `prithvi.embed`, or (step, feature, y, x) embeddings.
        ax: axes to draw on; None for a new figure.
        step: index of the time step to draw.
        ticks: label the axes with coordinates.
        bar: draw a scale bar, if the CRS of the embeddings is in metres.

    Raises:
        SceneError: the result has no embeddings, or fewer than four of them.

    """
    if isinstance(result, xr.Dataset):
        if "embedding" not in result:
            raise SceneError(f"embeddings are what prithvi.embed gives; this holds {', '.join(map(str, result))}.")
        result = result["embedding"]
    having(result, "an embedding", "feature", "y", "x")
    steps = result if "step" in result.dims else result.expand_dims("step")
    vectors = thinned(steps).transpose("step", "y", "x", "feature").values.astype(np.float64)
    there = np.isfinite(vectors).all(axis=-1)
    known = vectors[there]
    if len(known) < 4:
        raise SceneError("fewer than four places have an embedding: there is nothing to tell apart.")
    centred = known - known.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    directions = directions[:, ::-1][:, :3]
    # The sign of an eigenvector is arbitrary: the largest coefficient is made positive, so that colours are stable.
    directions *= np.sign(directions[np.abs(directions).argmax(axis=0), range(directions.shape[1])])
    scores = centred @ directions
    low, high = np.percentile(scores, [2, 98], axis=0)
    picture = np.ones((*there.shape, 3), dtype=np.float32)
    picture[there] = np.clip((scores - low) / np.maximum(high - low, 1e-12), 0, 1)
    ax = one(ax)
    draw(ax, picture[step], ground_of(result), ticks=ticks, bar=bar)
    return ax
