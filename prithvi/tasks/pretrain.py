"""Pretraining: a masked autoencoder learns from images alone (arXiv 2111.06377; recipe of arXiv 2412.02732).

Every random choice of a step (crop, flip, masks, coordinates left out) is drawn from a generator that is seeded with
the number of the batch, for the whole batch over all devices, of which each takes its part. So a run that was killed
goes on bit for bit as it would have, and two devices do what one does with twice the batch.
"""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import torch
import torch.distributed
from torch import Tensor

from prithvi.contract import Contract
from prithvi.errors import BandError, ConfigError, DatasetError, TrainingError, one_of
from prithvi.modelio import load_weights
from prithvi.models import PrithviMAE, Standardise
from prithvi.models.flops import training_flops
from prithvi.models.masking import Masking, flags, hide, patch_pixels, pixel_patches, split
from prithvi.models.zoo import configure
from prithvi.tasks.augment import views
from prithvi.tasks.optimizer import with_schedule

PUBLISHED_BATCH = 3840
"""Samples a step of Prithvi-EO-2.0, for which its learning rates are."""
MASKS = ("random", "tube", "cloud")
FLIPS = {"none": 1, "horizontal": 2, "all": 8}
PIXELS = ("clear", "valid", "all")
LOSSES = ("mse", "l1")


class PretrainTask(L.LightningModule):
    """A `PrithviMAE`, trained to predict the patches it does not see.

    Batches are those of `prithvi.data.PretrainDataModule`. Defaults are those published for Prithvi-EO-2.0 where it
    has one; `configs/pretrain_published.yaml` is the published run with nothing of ours.

    Args:
        model: name of the shape (`prithvi models list`).
        contract: bands, statistics and level of the data, as `Contract.to_dict` writes them; `prithvi fit` takes them
            from the data.
        statistics: `data` to standardise by the stores' own mean and standard deviation, `model` by the variant's.
        init: weights to start from: a name, hub id, file or folder; null for random ones.
        freeze_encoder: leave the encoder as `init` has it, and train the decoder alone.
        model_options: other fields of the model's configuration, such as depth or norm_pix_loss.
        num_frames: dates that position codes are laid out for; null for the variant's own. Any number trains.
        crop: side of the square that is cut from a chip, in pixels.
        flips: `horizontal`, as published; `all` eight symmetries of a square; or `none`.
        mask_ratio: hidden share of the patches; null for the variant's own (0.75).
        masks: how often each kind is drawn, any scale: `random` patches; `tube`, the same places in all dates;
            `cloud`, every patch that a real cloud touches (data.clouds names where the shapes come from).
        decode_fraction: share of the hidden patches that are predicted, drawn anew each step. Below 1 it is faster;
            what is predicted then attends to fewer mask tokens, and the loss is an estimate from fewer patches.
        loss_pixels: `clear`, pixels with data and without cloud or shadow by Fmask; `valid`, all with data; `all`, as
            published, nodata (which is shown as the band mean) and clouds too.
        loss: `mse`, as published, or `l1`, which counts smooth ground and edges more alike (one revision of version 1's
            card says L1).
        drop_time: share of the samples whose dates are left out.
        drop_location: share of the samples whose place is left out.
        lr: highest learning rate; null for the published 5e-4 times the global batch over 3,840.
        warmup: share of the steps in which it rises, before it falls along a cosine.
        lr_start: where it begins.
        lr_end: where it ends.
        weight_decay: of matrices; biases, norms, tokens and scales have none.
        betas: of AdamW.
        eps: of AdamW.
        compile: compile the transformer blocks. Pays on a GPU, not on a CPU.
        seed: of every draw in a step; the order of the samples has its own (data.seed).

    Raises:
        ConfigError, ModelError: options that do not fit together; a crop that patches do not divide.

    """

    def __init__(
        self,
        model: str = "prithvi_hls_tiny",
        contract: dict[str, Any] | None = None,
        statistics: str = "data",
        init: str | None = None,
        freeze_encoder: bool = False,
        model_options: dict[str, Any] | None = None,
        num_frames: int | None = None,
        crop: int = 224,
        flips: str = "horizontal",
        mask_ratio: float | None = None,
        masks: dict[str, float] | None = None,
        decode_fraction: float = 1.0,
        loss_pixels: str = "clear",
        loss: str = "mse",
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
        super().__init__()
        if contract is None:
            raise ConfigError("PretrainTask needs contract=: bands and statistics of its input.")
        self.contract = Contract.from_dict(contract)
        self.masks = dict(masks or {"random": 1.0})
        for name, value, known in (
            ("statistics", statistics, ("data", "model")),
            ("flips", flips, FLIPS),
            ("loss_pixels", loss_pixels, PIXELS),
            ("loss", loss, LOSSES),
            *(("masks", kind, MASKS) for kind in self.masks),
        ):
            one_of(value, known, f"{name} has no")
        for name, share in (("decode_fraction", decode_fraction), ("mask_ratio", mask_ratio)):
            if share is not None and not 0.0 < share <= 1.0:
                raise ConfigError(f"{name} is {share}; it is a share of the patches, above 0 and at most 1.")
        if min(self.masks.values()) < 0 or sum(self.masks.values()) <= 0:
            raise ConfigError(f"masks {self.masks}: weights are 0 or more, and one is above 0.")
        options = dict(model_options or {})
        config = configure(model)
        if config.bands != self.contract.bands and "bands" not in options:
            raise BandError(
                f"the stores hold {', '.join(self.contract.bands)}; {model} wants {', '.join(config.bands)}. Build "
                "stores with those bands, or say model_options.bands to train on what they hold."
            )
        if statistics == "data":
            options |= {"mean": self.contract.mean, "std": self.contract.std}
        if mask_ratio is not None:
            options["mask_ratio"] = mask_ratio
        options |= {"level": self.contract.level, "resolution": self.contract.resolution}
        config = configure(model, num_frames=num_frames, img_size=crop, **options)
        self.contract = config.contract
        self.mae = PrithviMAE(config)
        self.standardise = Standardise(self.contract)
        if freeze_encoder and init is None:
            raise ConfigError("freeze_encoder keeps the encoder of init: say init.")
        self.init = init
        if init is not None:
            self.report = str(load_weights(self.mae, init))
        self.mae.encoder.requires_grad_(not freeze_encoder)
        self.crop, self.flips, self.decode_fraction, self.loss_pixels = crop, FLIPS[flips], decode_fraction, loss_pixels
        self.absolute = loss == "l1"
        self.drop_time, self.drop_location = drop_time, drop_location
        self.lr, self.warmup, self.lr_start, self.lr_end = lr, warmup, lr_start, lr_end
        self.weight_decay, self.betas, self.eps = weight_decay, betas, eps
        self.compile_blocks, self.seed = compile, seed
        self.samples = 0
        self._last: tuple[Tensor, list[str]] | None = None

    def configure_model(self) -> None:
        """Shards the weights over devices under ModelParallelStrategy, a block at a time; compiles if asked to."""
        from torch.distributed.tensor import DTensor

        blocks = [*self.mae.encoder.blocks, *self.mae.decoder.decoder_blocks]
        if self.device_mesh is not None and not isinstance(self.mae.encoder.cls_token, DTensor):
            from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

            mesh = self.device_mesh["data_parallel"]
            for part in (*blocks, self.mae):
                fully_shard(part, mesh=mesh)
            register_fsdp_forward_method(self.mae, "hidden_error")
        if self.compile_blocks:
            self.compile_blocks = False
            for block in blocks:
                block.compile()

    def on_fit_start(self) -> None:
        if self.trainer.max_steps < 0:
            raise ConfigError("the stream of chips has no end: say how many steps (trainer.max_steps).")

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self._stop_if_not_finite()
        ranks, rank, number = self.trainer.world_size, self.global_rank, int(batch.get("number", batch_idx))
        # For what draws from torch's own generator, such as stochastic depth.
        torch.manual_seed((self.seed * 1_000_003 + number) * 4_096 + rank)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        images, counts, known, masking, coordinates = self.prepare(batch, generator, rank, ranks, training=True)
        error = self.mae.hidden_error(images, masking, counts, *coordinates, known, self.absolute)
        pixels = error.pixels
        if ranks > 1:  # so that each hidden pixel weighs the same on every device
            pixels = pixels.clone().float()
            torch.distributed.all_reduce(pixels)
            pixels = pixels / ranks
        loss = error.total / pixels.clamp(min=1)
        self._last = (loss.detach(), list(batch["id"]))
        if loss.device.type == "cpu":
            self._stop_if_not_finite()
        self.samples += len(images) * ranks
        self.log("train/loss", loss, prog_bar=True, batch_size=len(images), sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        generator = torch.Generator().manual_seed(self.seed + 7 * batch_idx)
        images, counts, known, masking, coordinates = self.prepare(batch, generator)
        error = self.mae.hidden_error(images, masking, counts, *coordinates, known, self.absolute)
        several = dataloader_idx > 0
        self.log(
            "val/loss", error.loss, prog_bar=True, batch_size=len(images), sync_dist=True, add_dataloader_idx=several
        )

    def prepare(
        self,
        batch: dict[str, Any],
        generator: torch.Generator,
        rank: int = 0,
        ranks: int = 1,
        training: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor, Masking, tuple[Tensor, Tensor]]:
        """Standardised crops, pixels that count, known pixels, masking and coordinates of a device's part."""
        image, clear, valid = batch["image"], batch["clear"], batch["valid"]
        if image.is_floating_point() and not torch.isfinite(image.movedim(1, -1)[valid]).all():
            raise DatasetError(
                f"an image of the batch {_listed(batch['id'])} holds NaN or infinity where it is marked valid: mark "
                "pixels without data in 'valid'."
            )
        size = len(image)
        part = slice(rank * size, (rank + 1) * size)

        def draw(*shape: int) -> Tensor:
            """Numbers are drawn for all devices, and each takes its part."""
            return torch.rand(size * ranks, *shape, generator=generator)[part]

        given = [image, valid, clear, *([batch["clouds"]] if batch.get("clouds") is not None else [])]
        image, valid, clear, *clouds = views(given, self.crop, draw(3) if training else None, self.flips)
        images = self.standardise(image, valid)
        counts = {"clear": clear, "valid": valid, "all": None}[self.loss_pixels]
        dates, place = batch["temporal_coords"], batch["location_coords"]
        if training:
            left_out = draw(2).to(image.device)
            dates = torch.where(left_out[:, 0, None, None] < self.drop_time, torch.nan, dates)
            place = torch.where(left_out[:, 1, None] < self.drop_location, torch.nan, place)
        kind = self._kind(generator) if training else "random"
        shapes = clouds[0] if clouds else None
        masking = self._masking(kind, images, None if batch.get("complete") else valid, shapes, draw)
        if training:
            masking = masking.fewer(self.decode_fraction)
        grid = self.mae.encoder.grid_of(images)
        visible = flags(masking.visible, math.prod(grid))
        known = patch_pixels(visible, self.mae.config.patch_size, grid) & valid
        return images, counts, known, masking, (dates, place)

    def _kind(self, generator: torch.Generator) -> str:
        """The kind of this batch's masks."""
        names = list(self.masks)
        weights = torch.tensor([float(self.masks[name]) for name in names])
        return names[int(torch.multinomial(weights, 1, generator=generator))]

    def _masking(self, kind: str, images: Tensor, valid: Tensor | None, clouds: Tensor | None, draw: Any) -> Masking:
        config = self.mae.config
        grid = self.mae.encoder.grid_of(images)
        with_data = valid if self.loss_pixels != "all" else None
        present = pixel_patches(with_data, config.patch_size, grid) if with_data is not None else None
        noise = draw(grid[1] * grid[2]).repeat(1, grid[0]) if kind == "tube" else draw(math.prod(grid))
        noise = noise.to(images.device)
        if kind != "cloud":
            return hide(noise, config.mask_ratio, present)
        if clouds is None:
            raise ConfigError("masks asks for the shapes of clouds, and no store gives any: data.clouds.")
        return split(~pixel_patches(clouds, config.patch_size, grid), noise, present)

    def _stop_if_not_finite(self) -> None:
        """Raises TrainingError if the last loss was NaN or infinite. On a GPU this looks one step back, without
        waiting for the step at hand.
        """
        if self._last is not None:
            loss, names = self._last
            self._last = None
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss is {float(loss)} at step {self.global_step}, for the samples {_listed(names)}. Nothing "
                    "of this step was saved: look at these samples, or lower the learning rate and resume from the "
                    "last checkpoint."
                )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._stop_if_not_finite()
        config = self.mae.config.to_dict()
        checkpoint["prithvi"] = {"samples": self.samples, "contract": self.contract.to_dict(), "config": config}
        # By name and not by number, since a checkpoint that is to be sharded is matched in another order.
        names = {id(parameter): name for name, parameter in self.named_parameters()}
        states = checkpoint.get("optimizer_states", [])
        if not any(states):  # weights alone; or a sharded run's other devices, whose first device holds everything
            return
        for optimizer, state in zip(self.trainer.optimizers, states, strict=True):
            for group, kept in zip(optimizer.param_groups, state["param_groups"], strict=True):
                if not all(isinstance(number, int) for number in kept["params"]):
                    continue  # a sharded run has names already
                named = [names[id(parameter)] for parameter in group["params"]]
                for number, name in zip(kept["params"], named, strict=True):
                    if number in state["state"]:
                        state["state"][name] = state["state"].pop(number)
                kept["params"] = named

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.samples = int(checkpoint.get("prithvi", {}).get("samples", 0))

    def on_train_end(self) -> None:
        self._stop_if_not_finite()

    def gathered(self) -> dict[str, Tensor]:
        """The autoencoder's whole weights on the CPU, wherever they are sharded; called on every device."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = get_model_state_dict(self.mae, options=options)
        return {name: value for name, value in state.items() if isinstance(value, Tensor)}

    def flops_of(self, batch: dict[str, Any]) -> float:
        """Floating-point operations of training on a batch (forward and backward), as multiplications and additions."""
        frames = batch["image"].shape[2]
        return len(batch["id"]) * training_flops(self.mae.config, frames, self.crop, self.decode_fraction)

    def configure_optimizers(self) -> Any:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        peak = self.lr if self.lr is not None else 5e-4 * self.global_batch / PUBLISHED_BATCH
        fused = self.device_mesh is None
        optimizer = torch.optim.AdamW(groups, lr=peak, betas=self.betas, eps=self.eps, fused=fused)
        steps = max(1, self.trainer.max_steps)
        return with_schedule(optimizer, steps, self.warmup, self.lr_start / peak, self.lr_end / peak)

    @property
    def global_batch(self) -> int:
        """Samples that one step of the optimizer sees, over devices and accumulation."""
        data = getattr(self.trainer, "datamodule", None)
        each = data.batch_size if data is not None else 1
        return int(each * self.trainer.world_size * self.trainer.accumulate_grad_batches)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:16]) + (f" and {len(names) - 16} more" if len(names) > 16 else "")
