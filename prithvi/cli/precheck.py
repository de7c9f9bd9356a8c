"""A scene against what a model's files state of its input, before torch is imported and the weights are read."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

    from prithvi.contract import Contract
    from prithvi.modelio.requirements import Requirements


def open_and_check(
    sources: Sequence[str],
    opening: Mapping[str, Any],
    contract: Contract,
    accept: Sequence[str] | None,
    needs: Requirements | None = None,
) -> xr.DataArray:
    """A scene that fits a model: its bands and scale and, where `needs` is known, its size and number of dates.

    Args:
        sources: the files of one scene.
        opening: of `prithvi.open_scene`.
        contract: what the model expects of its input.
        accept: see `prithvi.scenes.conform`.
        needs: what else the model's files state.

    Raises:
        SceneError, BandError, ScaleError: it does not fit.

    """
    from prithvi.modelio.requirements import check_size
    from prithvi.scenes import conform, open_scene

    scene = open_scene(sources[0] if len(sources) == 1 else list(sources), **opening)
    if needs is not None:
        check_size(needs, scene)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are shown when the scene is conformed to the opened model
        conform(scene, contract, tuple(accept or ()))
    return scene
