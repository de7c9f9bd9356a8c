"""Self-supervised pretraining of the masked autoencoder (arXiv 2111.06377; recipe of arXiv 2412.02732).

All random choices of a step (crop, flip, masks, dropped coordinates) come from a generator seeded with the number of
the batch. They are drawn for the global batch, of which each device takes its part. An interrupted run therefore
resumes bit for bit, and two devices compute what one device does with twice the batch.
"""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
import torch.distributed
from torch import Tensor

from prithvi.contract import IGNORE, Contract
from prithvi.errors import BandError, ConfigError, TrainingError, one_of
from prithvi.modelio import load_weights
from prithvi.models import PrithviMAE, Standardise
from prithvi.models.flops import training_flops
from prithvi.models.mae import HiddenError
from prithvi.models.zoo import configure
from prithvi.tasks.meaning import refuse_another
from prithvi.tasks.optimizer import refuse_whole_precision, remade_after_search, with_schedule
from prithvi.tasks.pretrain_views import FLIPS, MASKS, NO_CLOUDS, PIXELS, View, Views, check_unit, sixteen
from prithvi.tasks.pseudo_labels import label_loss, label_names
from prithvi.tasks.weight_averages import save_averages

PUBLISHED_BATCH = 3840
"""Global batch size of Prithvi-EO-2.0, which the published learning rates refer to."""
LOSSES = ("mse", "l1")


class PretrainTask(L.LightningModule):
    """A `PrithviMAE` trained to predict masked patches.

    Batches are those of `prithvi.data.PretrainDataModule`. Defaults are those published for Prithvi-EO-2.0, if any;
    `configs/pretrain_published.yaml` is the published run without our additions.

    Args:
        model: name of the variant (`prithvi models list`).
        contract: bands, statistics and level of the data (`Contract.to_dict`); `prithvi fit` takes them from the data.
        statistics: `data` to standardise by the mean and standard deviation of the stores, `model` by the variant's.
        init: initial weights: a name, hub id, file or folder; null for random ones.
        freeze_encoder: keep the encoder of `init`, and train the decoder alone.
        model_options: other fields of the model's configuration, such as depth or norm_pix_loss.
        num_frames: number of dates that position codes are built for; null for the variant's. Batches may have any.
        crop: side of the training crop in pixels.
        flips: `horizontal`, as published; `all` eight symmetries of the square; or `none`.
        mask_ratio: fraction of hidden patches; null for the variant's (0.75).
        masks: sampling weights of the kinds of masks, any scale: `random` patches; `tube`, the same positions at all
            dates; `cloud`, all patches that a real cloud touches (data.clouds provides the shapes).
        decode_fraction: fraction of the hidden patches to predict, drawn anew each step. Below 1, steps are faster,
            predicted patches attend to fewer mask tokens, and the loss is an estimate from fewer patches.
        loss_pixels: `clear`, pixels with data and without cloud or shadow by Fmask; `valid`, all with data; `all`, as
            published, also nodata (replaced by the band mean) and clouds.
        loss: `mse`, as published, or `l1`, which weights smooth areas and edges more evenly (one revision of the model
            card of version 1 says L1).
        drop_time: fraction of samples whose dates are dropped.
        drop_location: fraction of samples whose location is dropped.
        lr: peak learning rate; null for the published 5e-4 times the global batch over 3,840.
        warmup: fraction of the steps in which it rises, before cosine decay.
        lr_start: initial learning rate.
        lr_end: final learning rate.
        weight_decay: weight decay of what has two dimensions or more, as in the published code of the autoencoder:
            matrices, and the class and mask tokens; biases, norms and scales have none.
        betas: betas of AdamW.
        eps: epsilon of AdamW.
        compile: compile the transformer blocks; faster on a GPU, not on a CPU.
        label_weight: weight of the cross-entropy of the stores' labels (data.labels), which a model with a per-pixel
            branch then learns beside the reconstruction; 0 for none.
        label_groups: classes that are kinds of another class, such as `land: [trees, grass]`. Each pixel's class is
            learned among those that are kinds of none, and its kind among those of its class; where a label says `land`
            alone, nothing is learned of the kinds.
        label_jitter: standard deviation of a random offset of each band, in standardised units, of the images whose
            labels are learned.
        label_drop_tokens: fraction of the samples whose labels are learned by the branch alone, so that it is as good
            by itself as it can be, and the tokens add to it rather than take its place.
        classes: names of the classes of the labels; `prithvi fit` takes them from the data.
        seed: seed of all draws in a step; the order of samples has its own (data.seed).
        new_bands: let bands that `init` has no weights for begin with random ones.

    Raises:
        ConfigError, ModelError: incompatible options, or a crop that is not a multiple of the patch size.

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
        label_weight: float = 0.0,
        label_groups: dict[str, list[str]] | None = None,
        label_jitter: float = 0.05,
        label_drop_tokens: float = 0.0,
        classes: list[str] | None = None,
        seed: int = 2022,
        new_bands: bool = False,
    ) -> None:
        super().__init__()
        if contract is None:
            raise ConfigError("PretrainTask needs contract=: bands and statistics of its input.")
        self.contract = Contract.from_dict(contract)
        check_unit(self.contract)
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
        if not 0.0 <= label_drop_tokens <= 1.0:
            raise ConfigError(f"label_drop_tokens is {label_drop_tokens}; it is a share of the samples, from 0 to 1.")
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
        if label_weight > 0:
            if not classes:
                raise ConfigError("label_weight learns the labels of the stores: say data.labels: true.")
            if not options.get("pixel_width", config.pixel_width):
                raise ConfigError(
                    f"labels are learned by the per-pixel branch, and this {model} has none: "
                    "model_options.pixel_width: 32."
                )
            options["labels"] = label_names(classes, label_groups or {})
        config = configure(model, num_frames=num_frames, img_size=crop, **options)
        self.contract = config.contract
        self.mae = PrithviMAE(config)
        self.label_weight, self.label_jitter, self.label_drop_tokens = label_weight, label_jitter, label_drop_tokens
        self.standardise = Standardise(self.contract)
        if freeze_encoder and init is None:
            raise ConfigError("freeze_encoder keeps the encoder of init: say init.")
        self.init = init
        if init is not None:
            self.report = str(load_weights(self.mae, init, new_bands))
        self.mae.encoder.requires_grad_(not freeze_encoder)
        self.views = Views(
            config, crop, FLIPS[flips], self.masks, loss_pixels, decode_fraction, drop_time, drop_location
        )
        self.crop, self.decode_fraction, self.absolute = crop, decode_fraction, loss == "l1"
        self.lr, self.warmup, self.lr_start, self.lr_end = lr, warmup, lr_start, lr_end
        self.weight_decay, self.betas, self.eps = weight_decay, betas, eps
        self.compile_blocks, self.seed = compile, seed
        self.samples = 0
        self._last: tuple[Tensor, list[str]] | None = None

    def configure_model(self) -> None:
        """Shards weights over devices block by block, under ModelParallelStrategy; compiles blocks if requested."""
        from torch.distributed.tensor import DTensor

        # Lightning may call this repeatedly. FSDP gathers weights in `forward` and must be told of `hidden_error`.
        blocks = [*self.mae.encoder.blocks, *self.mae.decoder.decoder_blocks]
        if self.device_mesh is not None and not isinstance(self.mae.encoder.cls_token, DTensor):
            from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

            mesh = self.device_mesh["data_parallel"]
            for part in (*blocks, self.mae):
                fully_shard(part, mesh=mesh)
            for method in ("hidden_error", "label_scores"):
                register_fsdp_forward_method(self.mae, method)
        if self.compile_blocks:
            self.compile_blocks = False
            for block in blocks:
                block.compile()

    def setup(self, stage: str) -> None:
        refuse_whole_precision(self.trainer)

    def on_fit_start(self) -> None:
        if self.trainer.max_steps < 0:
            raise ConfigError("the stream of chips has no end: say how many steps (trainer.max_steps).")
        # Said now, and not at the first batch that draws such masks.
        if self.masks.get("cloud") and getattr(getattr(self.trainer, "datamodule", None), "clouds", None) == []:
            raise ConfigError(NO_CLOUDS)
        remade_after_search(self.trainer)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self._stop_if_not_finite()
        ranks, rank, number = self.trainer.world_size, self.global_rank, int(batch.get("number", batch_idx))
        # Layers such as stochastic depth draw from torch's default generator, so it is seeded per step and rank too.
        torch.manual_seed((self.seed * 1_000_003 + number) * 4_096 + rank)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        view = self.prepare(batch, generator, rank, ranks, training=True)
        error = self.error_of(view)
        loss = error.total / _mean_over(ranks, error.pixels).clamp(min=1)
        if self.label_weight > 0:
            learned = self.label_loss(view, training=True)
            if view.label is not None and (view.label != IGNORE).any():
                self.log("train/label_loss", learned, batch_size=len(view.images), rank_zero_only=True)
            loss = loss + self.label_weight * learned
        self._last = (loss.detach(), list(batch["id"]))
        if loss.device.type == "cpu":
            self._stop_if_not_finite()
        self.samples += len(view.images) * ranks
        self.log("train/loss", loss, prog_bar=True, batch_size=len(view.images), sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        view = self.prepare(batch, torch.Generator().manual_seed(self.seed + 7 * batch_idx))
        more: dict[str, Any] = {"batch_size": len(view.images), "sync_dist": True}
        more["add_dataloader_idx"] = dataloader_idx > 0
        self.log("val/loss", self.error_of(view).loss, prog_bar=True, **more)
        if self.label_weight > 0 and view.label is not None:
            self.log("val/label_loss", self.label_loss(view), **more)

    def error_of(self, view: View) -> HiddenError:
        """Error of the reconstruction at the hidden pixels."""
        return self.mae.hidden_error(
            view.images, view.masking, view.counts, *view.coordinates, view.known, self.absolute
        )

    def label_loss(self, view: View, training: bool = False) -> Tensor:
        """Cross-entropy of the labels; 0 (with a gradient) in a batch without any."""
        # Samples without labels are left out of the second pass, except for one where none has any: on several devices
        # each parameter needs a gradient in every step.
        assert view.label is not None
        some = (view.label != IGNORE).flatten(1).any(dim=1)
        some[0] |= not some.any()
        images, dates, place = view.images[some], view.coordinates[0][some], view.coordinates[1][some]
        if training and self.label_jitter > 0:
            images = images + self.label_jitter * torch.randn(*images.shape[:2], 1, 1, 1, device=images.device)
        shut = torch.rand(len(images), device=images.device) < self.label_drop_tokens if training else None
        return label_loss(self.mae.label_scores(images, dates, place, shut), view.label[some], self.mae.config.labels)

    def prepare(
        self, batch: dict[str, Any], generator: torch.Generator, rank: int = 0, ranks: int = 1, training: bool = False
    ) -> View:
        """Standardised crops of a batch with their masks, dates and places; see `prithvi.tasks.pretrain_views`."""
        return self.views.of(batch, generator, self.standardise, rank, ranks, training)

    def _stop_if_not_finite(self) -> None:
        """Raises TrainingError if the last loss was not finite; on a GPU one step late, to avoid a synchronisation."""
        if self._last is not None:
            loss, names = self._last
            self._last = None
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss is {float(loss)} at step {self.global_step}, for the samples {sixteen(names)}. Nothing "
                    "of this step was saved: look at these samples, or lower the learning rate and resume from the "
                    "last checkpoint."
                )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._stop_if_not_finite()
        save_averages(self, checkpoint)
        config = self.mae.config.to_dict()
        checkpoint["prithvi"] = {"samples": self.samples, "contract": self.contract.to_dict(), "config": config}
        # By name, not number, so that sharded runs, which order parameters differently, can resume the checkpoint.
        names = {id(parameter): name for name, parameter in self.named_parameters()}
        states = checkpoint.get("optimizer_states", [])
        if not any(states):  # weights-only checkpoint; or a sharded run's ranks other than 0, which holds all states
            return
        for optimizer, state in zip(self.trainer.optimizers, states, strict=True):
            for group, kept in zip(optimizer.param_groups, state["param_groups"], strict=True):
                if not all(isinstance(number, int) for number in kept["params"]):
                    continue  # sharded runs use names already
                named = [names[id(parameter)] for parameter in group["params"]]
                for number, name in zip(kept["params"], named, strict=True):
                    if number in state["state"]:
                        state["state"][name] = state["state"].pop(number)
                kept["params"] = named

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._trainer is not None:
            name = str(self.trainer.ckpt_path or "the checkpoint")
            refuse_another(name, checkpoint, self.contract, {}, measuring=False)
        self.samples = int(checkpoint.get("prithvi", {}).get("samples", 0))

    def on_train_end(self) -> None:
        self._stop_if_not_finite()

    def gathered(self) -> dict[str, Tensor]:
        """Full weights of the autoencoder on the CPU, gathered if sharded; must be called on all ranks."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = get_model_state_dict(self.mae, options=options)
        return {name: value for name, value in state.items() if isinstance(value, Tensor)}

    def flops_of(self, batch: dict[str, Any]) -> float:
        """Floating-point operations of a training step on a batch, forward and backward."""
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
        """Samples per optimiser step, over all devices and accumulated batches."""
        data = getattr(self.trainer, "datamodule", None)
        each = data.batch_size if data is not None else 1
        return int(each * self.trainer.world_size * self.trainer.accumulate_grad_batches)


def _mean_over(ranks: int, pixels: Tensor) -> Tensor:
    """Number of counted pixels, averaged over devices: each hidden pixel has the same weight on all of them."""
    if ranks == 1:
        return pixels
    pixels = pixels.clone().float()
    torch.distributed.all_reduce(pixels)
    return pixels / ranks
