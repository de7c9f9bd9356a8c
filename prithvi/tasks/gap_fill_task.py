"""Cloud-gap filling: a masked autoencoder fine-tuned with the shapes of real clouds (arXiv 2404.19609)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from prithvi.errors import ConfigError, one_of
from prithvi.metrics import GapMetrics
from prithvi.modelio import load_weights
from prithvi.models import PrithviMAE
from prithvi.models.gapfill import LANDMARKS, GapFiller
from prithvi.models.zoo import configure
from prithvi.tasks.augment import views
from prithvi.tasks.measured_task import MeasuredTask
from prithvi.tasks.pretrain_views import FLIPS, check_unit
from prithvi.tasks.several_devices import repeated, with_every_weight

HIDE = ("middle", "any")


class GapFillTask(MeasuredTask):
    """A `GapFiller`, trained on clear series over which clouds of elsewhere are laid.

    Batches are those of `prithvi.data.GapDataModule`. Loss and metrics count only pixels under an artificial cloud that
    are really clear, whose true values are known.

    Args:
        model: name of the variant (`prithvi models list`).
        contract: bands, statistics and level of the data, as from `Contract.to_dict`; `prithvi fit` takes them from
            the data.
        init: initial weights: a name, hub id, file or folder; null for random ones.
        statistics: `data` to standardise by the mean and standard deviation of the data; `init` by those that the
            weights were pretrained with.
        model_options: other fields of the model's configuration, such as blend_fill.
        num_frames: dates per time series.
        crop: side of the training crop in pixels; validation and test take whole chips.
        flips: `horizontal`, `all` eight symmetries of the square, or `none`.
        hide: dates under clouds: the `middle` one, or `any` non-empty combination of dates (the two published
            settings).
        touched: treatment of partly hidden patches: `hidden` (as published), or `visible` with interpolated values at
            the hidden pixels.
        landmarks: known pixels per date for the kernel regression of the interpolation; 0 for none.
        loss: `l1` or `mse` (as published) in standardised units.
        coordinates: give the model dates and locations, if it has codes for them.
        lr: peak learning rate of AdamW.
        weight_decay: weight decay of matrices.
        warmup: fraction of the steps in which the learning rate rises, before cosine decay.
        layer_decay: factor of the learning rate from each encoder block to the one before it.
        seed: seed of all draws in a step.
        new_bands: let bands that `init` has no weights for begin with random ones.

    Raises:
        ConfigError, ModelError: incompatible options.
        CheckpointError: `init` does not fit, or lacks a band.

    """

    def __init__(
        self,
        model: str = "prithvi_hls_tiny",
        contract: dict[str, Any] | None = None,
        init: str | None = None,
        statistics: str = "data",
        model_options: dict[str, Any] | None = None,
        num_frames: int = 3,
        crop: int = 224,
        flips: str = "all",
        hide: str = "any",
        touched: str = "hidden",
        landmarks: int = LANDMARKS,
        loss: str = "l1",
        coordinates: bool = True,
        lr: float = 1e-4,
        weight_decay: float = 0.05,
        warmup: float = 0.1,
        layer_decay: float = 1.0,
        seed: int = 0,
        new_bands: bool = False,
    ) -> None:
        super().__init__(contract, statistics, init, model)
        for name, value, known in (("flips", flips, FLIPS), ("hide", hide, HIDE), ("loss", loss, ("l1", "mse"))):
            one_of(value, known, f"{name} has no")
        check_unit(self.contract)
        config = configure(
            model, num_frames, crop, self.contract.bands, mean=self.contract.mean, std=self.contract.std,
            clip=self.contract.clip, level=self.contract.level, resolution=self.contract.resolution,
            **(model_options or {}),
        )  # fmt: skip
        self.filler = GapFiller(PrithviMAE(config), touched, landmarks)
        self.init = init
        self.init_report = str(load_weights(self.filler.mae, init, new_bands)) if init is not None else None
        self.crop, self.flips, self.hide, self.coordinates, self.seed = crop, FLIPS[flips], hide, coordinates, seed
        self.schedule = {"lr": lr, "weight_decay": weight_decay, "warmup": warmup, "layer_decay": layer_decay}
        self.distance = nn.functional.l1_loss if loss == "l1" else nn.functional.mse_loss
        self.metrics = nn.ModuleDict({part: GapMetrics(self.contract.bands) for part in ("val_", "test_")})

    @property
    def mae(self) -> PrithviMAE:
        """The autoencoder that is trained."""
        return self.filler.mae

    def forward(self, images: Tensor, known: Tensor, batch: dict[str, Any]) -> Tensor:
        """(B, band, T, Y, X) standardised images with every pixel that is not known predicted."""
        filled: Tensor = self.filler(images, known, *self.coordinates_of(batch))
        return filled

    def covered(
        self, batch: dict[str, Any], generator: torch.Generator, training: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Images under artificial clouds, for one step.

        Returns:
            Standardised images (B, band, T, Y, X); known pixels (B, T, Y, X) bool: really clear and not covered;
            counted pixels (B, T, Y, X) bool: really clear and covered.

        """
        image, clear, clouds = batch["image"], batch["clear"] & batch["valid"], batch.get("clouds")
        if clouds is None:
            raise ConfigError("gap filling lays clouds of elsewhere over clear series: say data.clouds.")
        if training:
            draws = torch.rand(len(image), 3, generator=generator)
            image, clear, clouds = views([image, clear, clouds], self.crop, draws, self.flips)
        chosen = self._dates(len(image), image.shape[2], generator).to(clouds.device)
        clouds = clouds & chosen[:, :, None, None]
        images = self.standardise(image, clear)
        return images, clear & ~clouds, clear & clouds

    def _dates(self, size: int, frames: int, generator: torch.Generator) -> Tensor:
        """(B, T) bool, True for dates that clouds are laid over."""
        chosen = torch.zeros(size, frames, dtype=torch.bool)
        if self.hide == "middle":
            chosen[:, frames // 2] = True
            return chosen
        # The bits of a number from 1 to 2^T - 1 are a uniform draw from all non-empty combinations of dates.
        number = torch.randint(1, 2**frames, (size, 1), generator=generator)
        return (number >> torch.arange(frames)) % 2 == 1

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        number = int(batch.get("number", batch_idx))
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + number) * 4_096 + self.global_rank)
        images, known, counts = self.covered(batch, generator, training=True)
        loss = self._loss(self(images, known, batch), images, counts)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(images))
        return with_every_weight(loss, self)

    def _loss(self, filled: Tensor, truth: Tensor, counts: Tensor) -> Tensor:
        """Mean error over bands and counted pixels; 0 (with a gradient) if no pixel counts."""
        error = self.distance(filled.float(), truth, reduction="none").mean(dim=1)
        return (error * counts).sum() / counts.sum().clamp(min=1)

    def test_generator(self, batch_idx: int) -> torch.Generator:
        """Generator that decides which dates of a validation or test batch are covered, always the same."""
        return torch.Generator().manual_seed(self.seed * 1_000_003 + batch_idx)

    def _evaluate(self, batch: dict[str, Any], batch_idx: int, part: str, loader: int) -> None:
        images, known, counts = self.covered(batch, self.test_generator(batch_idx), training=False)
        again = repeated(self, part, loader, batch_idx, len(images))
        counts, number = counts & ~again.to(counts.device)[:, None, None, None], int((~again).sum())
        filled = self(images, known, batch)
        self.log(f"{part}/loss", self._loss(filled, images, counts), batch_size=number, add_dataloader_idx=False)
        predicted, truth = (self.reflectance(values).transpose(1, 2).flatten(0, 1) for values in (filled, images))
        self.metric(part).update(predicted, truth, counts.flatten(0, 1))

    def reflectance(self, standardised: Tensor) -> Tensor:
        """Converts standardised values (B, band, T, Y, X) to reflectance (0 to 1)."""
        return self.standardise.undo(standardised) / self.contract.scale
