"""Embeddings as colours."""

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
    """Draws the three directions in which embeddings differ most as red, green and blue (principal components).

    Alike in colour is alike for the model. The components are those of all steps together, so that the colours of two
    steps of one result compare; those of two results do not.

    Args:
        result: what `prithvi.embed` gives, or (step, feature, y, x).
        ax: where to; None makes a figure.
        step: which step of time.
        ticks: write coordinates along the sides.
        bar: draw a scale bar, where the embeddings lie on a map in metres.

    Raises:
        SceneError: these are no embeddings, or fewer than four places have one.

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
    directions *= np.sign(directions[np.abs(directions).argmax(axis=0), range(directions.shape[1])])
    scores = centred @ directions
    low, high = np.percentile(scores, [2, 98], axis=0)
    picture = np.ones((*there.shape, 3), dtype=np.float32)
    picture[there] = np.clip((scores - low) / np.maximum(high - low, 1e-12), 0, 1)
    ax = one(ax)
    draw(ax, picture[step], ground_of(result), ticks=ticks, bar=bar)
    return ax
