"""What a step of pretraining sees of a batch: crops, masks, dropped coordinates, all from one generator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prithvi.contract import IGNORE, Contract
from prithvi.errors import ConfigError, DatasetError
from prithvi.models import ModelConfig, Standardise
from prithvi.models.masking import Masking, flags, hide, patch_pixels, pixel_patches, split
from prithvi.tasks.augment import views

MASKS = ("random", "tube", "cloud")
FLIPS = {"none": 1, "horizontal": 2, "all": 8}
PIXELS = ("clear", "valid", "all")
NO_CLOUDS = (
    "masks asks for the shapes of clouds, and nothing gives any: name stores with partly cloudy dates "
    "(--data.clouds '[chips.zarr]'), or leave such masks out (--model.masks '{random: 1}')."
)


@dataclass(frozen=True)
class View:
    """What a step sees of a batch."""

    images: Tensor
    """(B, band, T, Y, X), standardised."""
    counts: Tensor | None
    """(B, T, Y, X) bool, pixels that count in the loss; None for all."""
    known: Tensor
    """(B, T, Y, X) bool, valid pixels of visible patches."""
    masking: Masking
    coordinates: tuple[Tensor, Tensor]
    """Dates (B, T, 2) and places (B, 2)."""
    label: Tensor | None
    """(B, Y, X) class numbers, `IGNORE` where unlabelled or without data; None without labels."""


@dataclass(frozen=True)
class Views:
    """Draws views; the options are those of `prithvi.tasks.PretrainTask`."""

    config: ModelConfig
    crop: int
    symmetries: int
    """Value of `FLIPS`."""
    masks: Mapping[str, float]
    loss_pixels: str
    decode_fraction: float
    drop_time: float
    drop_location: float

    def of(
        self,
        batch: Mapping[str, Any],
        generator: torch.Generator,
        standardise: Standardise,
        rank: int = 0,
        ranks: int = 1,
        training: bool = False,
    ) -> View:
        """One rank's view of its part of a batch.

        Args:
            batch: see `prithvi.data.streaming.ChipStream`.
            generator: of all draws, which are made for the global batch.
            standardise: of the contract.
            rank: this device.
            ranks: number of devices.
            training: random crops, masks and dropped coordinates; else the centre crop under random masks.

        Raises:
            DatasetError: pixels that are marked valid are not finite.
            ConfigError: cloud masks are asked for, and there are no shapes of clouds.

        """
        image, clear, valid = batch["image"], batch["clear"], batch["valid"]
        if image.is_floating_point() and not torch.isfinite(image.movedim(1, -1)[valid]).all():
            raise DatasetError(
                f"an image of the batch {sixteen(batch['id'])} holds NaN or infinity where it is marked valid: mark "
                "pixels without data in 'valid'."
            )
        size = len(image)
        part = slice(rank * size, (rank + 1) * size)

        def draw(*shape: int) -> Tensor:
            """Draws uniform numbers for the global batch, and returns this rank's part."""
            return torch.rand(size * ranks, *shape, generator=generator)[part]

        beside = {name: batch[name] for name in ("clouds", "label") if batch.get(name) is not None}
        given = [image, valid, clear, *beside.values()]
        image, valid, clear, *moved = views(given, self.crop, draw(3) if training else None, self.symmetries)
        beside = dict(zip(beside, moved, strict=True))
        images = standardise(image, valid)
        counts = {"clear": clear, "valid": valid, "all": None}[self.loss_pixels]
        dates, place = batch["temporal_coords"], batch["location_coords"]
        if training:
            left_out = draw(2).to(image.device)
            dates = torch.where(left_out[:, 0, None, None] < self.drop_time, torch.nan, dates)
            place = torch.where(left_out[:, 1, None] < self.drop_location, torch.nan, place)
        kind = self._kind(generator) if training else "random"
        masking = self._masking(kind, images, None if batch.get("complete") else valid, beside.get("clouds"), draw)
        if training:
            masking = masking.fewer(self.decode_fraction)
        grid = self.config.grid(*images.shape[2:])
        visible = flags(masking.visible, math.prod(grid))
        known = patch_pixels(visible, self.config.patch_size, grid) & valid
        label = beside.get("label")
        if label is not None:
            label = torch.where(valid.any(dim=1), label.long(), IGNORE)
        return View(images, counts, known, masking, (dates, place), label)

    def _kind(self, generator: torch.Generator) -> str:
        """Draws the kind of masks of a batch."""
        names = list(self.masks)
        weights = torch.tensor([float(self.masks[name]) for name in names])
        return names[int(torch.multinomial(weights, 1, generator=generator))]

    def _masking(self, kind: str, images: Tensor, valid: Tensor | None, clouds: Tensor | None, draw: Any) -> Masking:
        config, grid = self.config, self.config.grid(*images.shape[2:])
        with_data = valid if self.loss_pixels != "all" else None
        present = pixel_patches(with_data, config.patch_size, grid) if with_data is not None else None
        noise = draw(grid[1] * grid[2]).repeat(1, grid[0]) if kind == "tube" else draw(math.prod(grid))
        noise = noise.to(images.device)
        if kind != "cloud":
            return hide(noise, config.mask_ratio, present)
        if clouds is None:
            raise ConfigError(NO_CLOUDS)
        return split(~pixel_patches(clouds, config.patch_size, grid), noise, present)


def check_unit(contract: Contract) -> None:
    """Whether pixels are in the unit that an autoencoder's weights are saved for.

    Raises:
        ConfigError: they are not.

    """
    if contract.scale != 10_000:
        raise ConfigError(
            f"the stores hold reflectance x {contract.scale:g}, and models are pretrained on reflectance x 10000: "
            "build the stores again with 'prithvi data build', which writes that."
        )


def sixteen(names: list[str]) -> str:
    """At most sixteen names, for a message."""
    return ", ".join(names[:16]) + (f" and {len(names) - 16} more" if len(names) > 16 else "")
