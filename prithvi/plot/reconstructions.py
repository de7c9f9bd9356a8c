"""Plots of reconstructions by a masked autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from prithvi.coords import year_and_day
from prithvi.errors import ModelError, SceneError
from prithvi.plot.drawing import date_of, draw, ground_of, several
from prithvi.plot.pictures import FALSE_COLOR, dates, rgb, stretch
from prithvi.scenes import conform, read

if TYPE_CHECKING:
    from prithvi.models import PrithviMAE

Floats = npt.NDArray[np.float32]
HIDDEN = 0.5
"""Grey level of hidden patches."""


def reconstruction(
    scene: xr.DataArray,
    model: PrithviMAE,
    axes: Any = None,
    *,
    mask_ratio: float = 0.75,
    seed: int = 0,
    bands: Sequence[str] = FALSE_COLOR,
) -> npt.NDArray[Any]:
    """Masks patches of a scene and draws the input, the visible patches and the model's reconstruction.

    The centre of the scene is used, in the model's image size. The reconstruction shows predictions at hidden patches
    and the input elsewhere. The model gets the dates, but not the location.

    Args:
        scene: a scene with the dates to reconstruct together.
        model: a pretrained model from `prithvi.load`.
        axes: three axes per date; None for a new figure.
        mask_ratio: fraction of patches to hide.
        seed: seed of the mask.
        bands: bands for red, green and blue.

    Returns:
        (dates, 3) array of axes: input, visible, reconstructed.

    Raises:
        SceneError: the scene is smaller than a patch.
        BandError, ScaleError: the scene does not fit the model.
        ModelError: the model predicts normalised patches (`norm_pix_loss`), which are not an image.

    """
    if model.config.norm_pix_loss:
        raise ModelError("this model predicts patches in units of their own mean and deviation, which are no picture.")
    part = _middle(conform(scene, model.contract), model)
    pixels = read(part, model.contract).astype(np.float32)
    times = year_and_day(part["time"].values) if "time" in part.coords else None
    shown, predicted = _run(model, pixels, times, mask_ratio, seed)
    units = part.copy(data=pixels).assign_attrs(gain=1 / model.contract.scale, bias=0.0)
    made = units.copy(data=np.where(shown[:, None], pixels, predicted))
    limits, steps = stretch(units, bands=bands), dates(units)
    found = several(axes, len(steps), 3, f"a reconstruction of {len(steps)} dates")
    for line, step, answer, seen in zip(found, steps, dates(made), shown, strict=True):
        original = rgb(step, bands, limits=limits)
        pictures = (original, np.where(seen[..., None], original, HIDDEN), rgb(answer, bands, limits=limits))
        titles = (f"input {date_of(step)}".rstrip(), f"visible ({seen.mean():.0%})", "reconstructed")
        for ax, picture, title in zip(line, pictures, titles, strict=True):
            draw(ax, picture, ground_of(step), bar=False)
            ax.set_title(title, fontsize=9)
    return found


def _middle(scene: xr.DataArray, model: PrithviMAE) -> xr.DataArray:
    """The centre of the scene in the model's image size, or less if the scene is smaller, in whole patches."""
    cut = {}
    for axis, most, patch in zip(("y", "x"), model.config.img_size, model.config.patch_size[1:], strict=True):
        size = min(most, scene.sizes[axis]) // patch * patch
        if not size:
            raise SceneError(f"the scene has {scene.sizes[axis]} pixels along {axis}, and a patch has {patch}.")
        first = (scene.sizes[axis] - size) // 2
        cut[axis] = slice(first, first + size)
    return scene.isel(cut)


def _run(
    model: PrithviMAE, pixels: Floats, times: Floats | None, mask_ratio: float, seed: int
) -> tuple[npt.NDArray[np.bool_], Floats]:
    """(time, y, x) bool visible pixels, and (time, band, y, x) predictions in contract units."""
    import torch  # imported here, since other plots do not need torch

    from prithvi.models import Standardise
    from prithvi.models.masking import patch_pixels

    device, training = model.encoder.cls_token.device, model.training
    standardise = Standardise(model.contract).to(device)
    images = standardise(torch.from_numpy(pixels).movedim(1, 0)[None].to(device))
    days = torch.from_numpy(times)[None].to(device) if times is not None else None
    with torch.no_grad():
        out = model.eval()(images, days, mask_ratio=mask_ratio, generator=torch.Generator(device).manual_seed(seed))
    model.train(training)
    visible = patch_pixels(~out.mask, model.config.patch_size, model.encoder.grid_of(images))[0]
    raw = standardise.undo(out.pred)[0].movedim(1, 0)
    return visible.cpu().numpy(), raw.float().cpu().numpy()
