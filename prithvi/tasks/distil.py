"""Distillation: one of our encoders learns to predict the features of a larger one that stays as it is.

The idea of feature distillation with a projection is that of FitNets (arXiv 1412.6550). Both encoders see the same
crop; what they give is compared on the coarser of their patch grids, since nothing is made up there: finer tokens, and
the pixels of a student's branch, are averaged by area.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn import functional as F

from prithvi.contract import Contract
from prithvi.errors import ConfigError, counted, one_of
from prithvi.models import Encoder
from prithvi.models.branch import date_planes
from prithvi.models.codes import Coordinates
from prithvi.models.flops import encoder_flops
from prithvi.models.teacher import Targets, Teacher, on_grid, pooled
from prithvi.tasks.augment import views
from prithvi.tasks.pretrain import PretrainTask
from prithvi.tasks.pretrain_views import FLIPS
from prithvi.tasks.teachers import check_data, open_teacher


class DistilTask(PretrainTask):
    """A student that learns the features of a frozen teacher on chip stores without labels.

    Batches are those of `prithvi.data.PretrainDataModule`, and runs are resumed as those of `PretrainTask` are. The
    decoder is not trained.

    Args:
        teacher: name, hub id, weights file or folder of a pretrained or fine-tuned model (see `prithvi.load`).
        architecture: the teacher's name in `prithvi models list`, for a weights file that does not say it.
        teacher_bands: bands that the teacher is given, where the stores lack some of its own; null for all of them.
        layers: blocks of the teacher whose features are learnt, from 0, or from -1 (the last, normalised) backwards.
        target_width: learn that many fixed random projections of the features instead of all their channels.
        loss: `smooth_l1` of standardised features, or `cosine`, their direction alone.
        accept: `level` to teach on top-of-atmosphere reflectance what was trained on surface reflectance, or the
            other way round; recorded with the model.
        statistics_batches: training batches that the features' mean and standard deviation are taken from.
        model: the student's name in `prithvi models list`.
        contract: see `PretrainTask`.
        statistics: see `PretrainTask`.
        init: weights that the student starts from; null for random ones.
        model_options: other fields of the student's configuration: embed_dim, depth, num_heads, patch_size, ...
        num_frames: see `PretrainTask`.
        crop: side of the crop in pixels, whole patches of both; 112 is that for patches of 16, 14, 8 and 4.
        flips: see `PretrainTask`.
        loss_pixels: pixels by whose share in a patch it counts: `valid`, all with data; `clear`, also without cloud
            or shadow by Fmask; `all`.
        drop_time: fraction of samples whose dates the student is not given; the teacher is.
        drop_location: fraction of samples whose location the student is not given; the teacher is.
        lr: see `PretrainTask`, as all that follow.
        warmup: fraction of the steps in which the rate rises.
        lr_start: initial learning rate.
        lr_end: final learning rate.
        weight_decay: weight decay of matrices.
        betas: betas of AdamW.
        eps: epsilon of AdamW.
        compile: compile the student's blocks.
        seed: seed of all draws in a step.

    Raises:
        ConfigError, BandError: options, bands, levels or sizes that do not fit.
        ModelError, CheckpointError, HubError: see `prithvi.load`.

    """

    def __init__(
        self,
        teacher: str,
        architecture: str | None = None,
        teacher_bands: list[str] | None = None,
        layers: list[int] | None = None,
        target_width: int | None = None,
        loss: str = "smooth_l1",
        accept: list[str] | None = None,
        statistics_batches: int = 16,
        model: str = "prithvi_hls_tiny",
        contract: dict[str, Any] | None = None,
        statistics: str = "data",
        init: str | None = None,
        model_options: dict[str, Any] | None = None,
        num_frames: int | None = None,
        crop: int = 112,
        flips: str = "all",
        loss_pixels: str = "valid",
        drop_time: float = 0.1,
        drop_location: float = 0.1,
        lr: float | None = None,
        warmup: float = 0.1,
        lr_start: float = 1e-6,
        lr_end: float = 4e-9,
        weight_decay: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        compile: bool = False,
        seed: int = 2022,
    ) -> None:
        super().__init__(
            model, contract, statistics, init, model_options=model_options, num_frames=num_frames, crop=crop,
            flips=flips, loss_pixels=loss_pixels, drop_time=drop_time, drop_location=drop_location, lr=lr,
            warmup=warmup, lr_start=lr_start, lr_end=lr_end, weight_decay=weight_decay, betas=betas, eps=eps,
            compile=compile, seed=seed,
        )  # fmt: skip
        self.kind = one_of(loss, ("smooth_l1", "cosine"), "loss has no")
        if statistics_batches < 1:
            raise ConfigError(f"statistics_batches is {statistics_batches}; it takes one at least.")
        self.statistics_batches, self.symmetries, self.counted = statistics_batches, FLIPS[flips], loss_pixels
        self.left_out = torch.tensor([drop_time, drop_location])
        data, opened = Contract.from_dict(contract or {}), open_teacher(teacher, architecture, teacher_bands)
        check_data(opened, data, accept or [])
        self._check_patches(teacher, opened.encoder, crop)
        # In a list, so that neither checkpoints nor the optimiser hold it.
        self._teacher = [Teacher(opened.encoder, opened.contract, data, layers or (-1,), opened.coordinates)]
        self.targets = Targets(self.teacher.width, target_width, seed)
        width, config = self.targets.width, self.mae.config
        self.predictors = nn.ModuleDict({"tokens": nn.Linear(config.embed_dim, width)})
        if self.mae.branch is not None:
            self.predictors["pixels"] = nn.Linear(config.pixel_width, width)
        for part in (self.mae.decoder, self.mae.pixel_decoder):
            if part is not None:
                part.requires_grad_(False)
        self.record: dict[str, Any] = {
            "teacher": teacher,
            "teacher_sha256": opened.sha256,
            "teacher_bands": ", ".join(opened.contract.bands),
            "layers": list(self.teacher.layers),
            "target_width": width,
            "loss": loss,
            "decoder": "not trained",
            **({"accepted": accept} if accept else {}),
        }
        self._sums: dict[str, Tensor] = {}

    @property
    def teacher(self) -> Teacher:
        """The encoder that is learnt from."""
        return self._teacher[0]

    def _check_patches(self, name: str, encoder: Encoder, crop: int) -> None:
        theirs, ours = encoder.config.patch_size, self.mae.config.patch_size
        if theirs[0] != ours[0]:
            raise ConfigError(
                f"patches of {name} span {counted(theirs[0], 'date')} and the student's {ours[0]}: let them span as "
                f"many (model_options.patch_size: [{theirs[0]}, {ours[1]}, {ours[2]}])."
            )
        if any(crop % side for side in theirs[1:]):
            whole = math.lcm(*theirs[1:], *ours[1:])
            raise ConfigError(
                f"crops of {crop} pixels do not divide into the patches of {name} ({theirs[1]} x {theirs[2]}): set "
                f"model.crop to {max(1, crop // whole) * whole}, or another multiple of {whole}."
            )

    def configure_model(self) -> None:
        """Compiles the student's blocks if requested; nothing is sharded."""
        if self.device_mesh is not None:
            raise ConfigError("a student is small and is not sharded: train it with trainer.strategy auto or ddp.")
        super().configure_model()

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self._measure_once()

    def on_validation_start(self) -> None:
        self._measure_once()

    def _measure_once(self) -> None:
        """Takes the statistics of the features, unless a checkpoint had them: on all devices of the same batches."""
        if not self.targets.measured:
            self.targets.measure(self._measured_parts())

    @torch.no_grad()
    def _measured_parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        data: Any = getattr(self.trainer, "datamodule", None)
        for number in range(self.statistics_batches):
            batch = self.transfer_batch_to_device(data.stream.batch(number), self.device, 0)
            images, valid, counts = self.cropped(batch, self.generator_of(number), training=True)
            coordinates = batch["temporal_coords"], batch["location_coords"]
            features = self.features(images, valid, coordinates)
            yield features, pooled(counts.float().unsqueeze(-1), (features.shape[2], features.shape[3])).squeeze(-1)

    def generator_of(self, number: int) -> torch.Generator:
        """What a batch's crops and dropped coordinates are drawn from."""
        return torch.Generator().manual_seed(self.seed * 1_000_003 + number)

    def cropped(
        self, batch: dict[str, Any], generator: torch.Generator, rank: int = 0, ranks: int = 1, training: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Crops of the pixels (B, band, T, Y, X), of those with data and of those that count (B, T, Y, X) bool."""
        image, valid = batch["image"], batch["valid"]
        counts = {"clear": batch["clear"], "valid": valid, "all": torch.ones_like(valid)}[self.counted]
        draws = None
        if training:  # for the batch of all devices, of which this one takes its part
            size = len(image)
            draws = torch.rand(size * ranks, 3, generator=generator)[rank * size : (rank + 1) * size]
        image, valid, counts = views([image, valid, counts], self.crop, draws, self.symmetries)
        return image, valid, counts

    def features(self, images: Tensor, valid: Tensor, coordinates: Coordinates) -> Tensor:
        """(B, t, h, w, width) the teacher's features, on the coarser of both grids."""
        found: Tensor = self.teacher.to(images.device)(images, valid, coordinates)
        return pooled(found, self._grid(found, self.mae.encoder.grid_of(images)))

    @staticmethod
    def _grid(maps: Tensor, grid: tuple[int, int, int]) -> tuple[int, int]:
        return min(maps.shape[2], grid[1]), min(maps.shape[3], grid[2])

    def student_maps(self, images: Tensor, coordinates: Coordinates) -> dict[str, Tensor]:
        """(B, t, y, x, D) what the student gives of standardised images; each is compared by itself.

        `tokens` are those of its patches, and `pixels` the features of its per-pixel branch, where it has one, with
        the tokens in them.
        """
        tokens = on_grid(self.mae.encoder(images, *coordinates).tokens, self.mae.encoder.grid_of(images))
        if self.mae.branch is None:
            return {"tokens": tokens}
        seen = torch.cat([images, date_planes(images, coordinates[0])], dim=1).transpose(1, 2)
        fused = self.mae.branch(seen, tokens.movedim(-1, 2)).movedim(2, -1)
        batch, steps = tokens.shape[:2]  # a token may be of several dates
        return {"tokens": tokens, "pixels": fused.reshape(batch, steps, -1, *fused.shape[2:]).mean(dim=2)}

    def compared(
        self, batch: dict[str, Any], views_: tuple[Tensor, Tensor, Tensor], coordinates: Coordinates
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """What the student predicts (B, t, h, w, width), each with its name; the target; the weight of each patch."""
        images, valid, counts = views_
        target = self.targets(self.features(images, valid, (batch["temporal_coords"], batch["location_coords"])))
        size = (target.shape[2], target.shape[3])
        maps = self.student_maps(self.standardise(images, valid), coordinates)
        found = {name: self.predictors[name](pooled(values, size)).float() for name, values in maps.items()}
        return found, target, pooled(counts.float().unsqueeze(-1), size).squeeze(-1)

    def distance(self, found: Tensor, target: Tensor) -> Tensor:
        """(...) distance of (..., width) features."""
        if self.kind == "cosine":
            return 1 - F.cosine_similarity(found, target, dim=-1)
        return F.smooth_l1_loss(found, target, reduction="none").mean(dim=-1)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self._stop_if_not_finite()
        ranks, rank, number = self.trainer.world_size, self.global_rank, int(batch.get("number", batch_idx))
        torch.manual_seed((self.seed * 1_000_003 + number) * 4_096 + rank)  # stochastic depth draws from it
        generator, size = self.generator_of(number), len(batch["id"])
        cut = self.cropped(batch, generator, rank, ranks, training=True)
        drawn = torch.rand(size * ranks, 2, generator=generator)[rank * size : (rank + 1) * size]
        no_date, no_place = (drawn < self.left_out).to(self.device).unbind(dim=1)
        dates = batch["temporal_coords"].masked_fill(no_date[:, None, None], torch.nan)
        place = batch["location_coords"].masked_fill(no_place[:, None], torch.nan)
        found, target, weight = self.compared(batch, cut, (dates, place))
        total = weight.sum()
        if ranks > 1:  # each patch has the same weight on all devices
            torch.distributed.all_reduce(total)
            total = total / ranks
        errors = [(self.distance(values, target) * weight).sum() for values in found.values()]
        loss = torch.stack(errors).mean() / total.clamp(min=1e-6)
        self._last = (loss.detach(), list(batch["id"]))
        if loss.device.type == "cpu":
            self._stop_if_not_finite()
        self.samples += size * ranks
        self.log("train/loss", loss, prog_bar=True, batch_size=size, sync_dist=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        self._sums = {}

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        cut = self.cropped(batch, torch.Generator())
        found, target, weight = self.compared(batch, cut, (batch["temporal_coords"], batch["location_coords"]))
        errors = []
        for name, values in found.items():
            errors.append((self.distance(values, target) * weight).sum() / weight.sum().clamp(min=1e-6))
            sums = (
                ((values - target) ** 2).mean(dim=-1) * weight, (target**2).mean(dim=-1) * weight,
                F.cosine_similarity(values, target, dim=-1) * weight, weight,
            )  # fmt: skip
            added = torch.stack([part.double().sum() for part in sums])
            self._sums[name] = self._sums[name] + added if name in self._sums else added
        several, size = dataloader_idx > 0, len(batch["id"])
        loss = torch.stack(errors).mean()
        self.log("val/loss", loss, prog_bar=True, batch_size=size, sync_dist=True, add_dataloader_idx=several)

    def on_validation_epoch_end(self) -> None:
        """Logs `val/r2`, the share of the features' variance that is predicted (0: as good as their mean), and
        `val/cosine`, over all chips; R2 not with a loss that leaves the length open.
        """
        for name, sums in self._sums.items():
            if self.trainer.world_size > 1:
                torch.distributed.all_reduce(sums)
            error, variance, cosine, weight = sums.tolist()
            after = "" if name == "tokens" else f"_{name}"
            if self.kind != "cosine":
                self.log(f"val/r2{after}", 1 - error / max(variance, 1e-12), prog_bar=True, rank_zero_only=True)
            self.log(f"val/cosine{after}", cosine / max(weight, 1e-12), rank_zero_only=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["prithvi"]["teacher"] = self.record["teacher_sha256"]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        before, now = checkpoint.get("prithvi", {}).get("teacher"), self.record["teacher_sha256"]
        if before != now:
            had = f"a teacher with the weights {before[:12]}" if before else "no teacher"
            raise ConfigError(
                f"the checkpoint was trained with {had}, and {self.record['teacher']} has {now[:12]}: go on with the "
                "same teacher, or begin a new run from its weights (model.init)."
            )

    def flops_of(self, batch: dict[str, Any]) -> float:
        """Floating-point operations of a training step on a batch: the teacher forward, the student also backward."""
        frames = batch["image"].shape[2]
        theirs, ours = (encoder_flops(c, frames, self.crop) for c in (self.teacher.encoder.config, self.mae.config))
        return len(batch["id"]) * (theirs + 3 * ours)

    @property
    def card(self) -> str:
        """What the model's card says beside its record."""
        size = sum(parameter.numel() for parameter in self.teacher.encoder.parameters()) / 1e6
        learner = "Its encoder" if self.mae.branch is None else "Its encoder and its per-pixel branch"
        return (
            "## What it was taught\n\n"
            f"{learner} learnt to predict the features of {self.record['teacher']} (an encoder of {size:.1f} million "
            f"parameters, blocks {', '.join(map(str, self.teacher.layers))}) by linear maps, which are not kept. "
            "`val/r2` is the share of their variance that it predicts on chips held out; 0 is as good as the mean.\n\n"
            "**The decoder was not trained**: the model embeds (`prithvi embed`) and is fine-tuned from "
            "(`--model.init`), and it neither reconstructs nor fills gaps. What the features are worth for a task "
            "was not measured unless the record says so."
        )
