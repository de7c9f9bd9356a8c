"""What a pretraining step does, and the sentences it ends in when it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

from prithvi.chips import ChipStore, StoreSpec
from prithvi.data import PretrainDataModule
from prithvi.errors import BandError, ConfigError, DatasetError, ModelError, TrainingError
from prithvi.modelio import load, save_pretrained
from prithvi.models.masking import Masking, flags
from prithvi.tasks import LinearProbe, LossCurve, PretrainTask, Reconstructions, Throughput
from prithvi.tasks.augment import views
from tests.chips.conftest import CLASSES, sample_chips
from tests.tasks.pretrain_run import SHAPE


@pytest.fixture
def store(six_bands: np.ndarray, tmp_path: Path) -> ChipStore:
    return ChipStore.create(
        tmp_path / "chips.zarr", StoreSpec(32, 32, 2, classes=CLASSES, shard=16), sample_chips(six_bands, 60)
    )


def task_of(data: PretrainDataModule, **options: object) -> PretrainTask:
    torch.manual_seed(0)
    fields = {"model_options": SHAPE, "crop": 32, "lr": 2e-3, **options}
    return PretrainTask("prithvi_hls_tiny", data.contract.to_dict(), **fields)


def trainer_of(root: Path, steps: int, **options: object) -> L.Trainer:
    fields = {"logger": False, "enable_checkpointing": False, **options}
    return L.Trainer(
        max_steps=steps, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=root, gradient_clip_val=20.0, val_check_interval=steps, check_val_every_n_epoch=None,
        num_sanity_val_steps=0, **fields,
    )  # fmt: skip


@pytest.mark.slow
def test_training_lowers_the_validation_loss_and_leaves_pictures_curves_and_a_probe(
    store: ChipStore, tmp_path: Path
) -> None:
    from lightning.pytorch.loggers import TensorBoardLogger

    tensorboard = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    data = PretrainDataModule([str(store.path)], batch_size=8, num_workers=0, probe=str(store.path))
    # From filling on there is little left to learn in 60 steps.
    task = task_of(data, masks={"random": 1.0, "tube": 1.0}, model_options={**SHAPE, "blend_fill": False})
    logger = TensorBoardLogger(tmp_path, name="board")
    trainer = trainer_of(
        tmp_path, 60, logger=logger, log_every_n_steps=10,
        callbacks=[LossCurve(10), Reconstructions(30), LinearProbe(30), Throughput(10)],
    )  # fmt: skip
    trainer.strategy.connect(task)
    (before,) = trainer.validate(task, datamodule=data, verbose=False)
    trainer.fit(task, datamodule=data)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert metrics["val/loss"] < 0.7 * before["val/loss"]
    assert 0 < metrics["speed/mfu"] < 1.2
    assert 0 <= metrics["speed/data_wait"] < 1
    assert metrics["speed/samples_per_s"] > 0
    assert 0 < metrics["probe/mIoU"] <= 1
    assert {file.name for file in (tmp_path / "pictures").iterdir()} == {"step-0000030.png", "step-0000060.png"}
    rows = (tmp_path / "loss.csv").read_text().splitlines()
    assert rows[0] == "part,step,loss"
    assert [row.split(",")[:2] for row in rows[1:]] == [
        *(["train", str(n)] for n in range(10, 61, 10)),
        ["val", "0"],
        ["val", "60"],
    ]
    assert (tmp_path / "loss.png").stat().st_size > 5000
    board = tensorboard.EventAccumulator(logger.log_dir).Reload()
    assert {"train/loss", "val/loss", "probe/mIoU", "speed/mfu"} <= set(board.Tags()["scalars"])
    assert board.Tags()["images"] == ["reconstruction"]


@pytest.mark.slow
def test_pictures_probes_and_speeds_come_once_a_due_step_however_many_batches_it_has(
    store: ChipStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prithvi.tasks import monitoring

    made: list[str] = []

    def probe(*_: object) -> dict[str, float]:
        made.append("probe")
        return {"mIoU": 0.5, "mAcc": 0.5}

    monkeypatch.setattr(monitoring, "write_figure", lambda figure, target, dpi=90: made.append(target.name))
    monkeypatch.setattr(monitoring, "linear_probe", probe)
    monkeypatch.setattr(PretrainTask, "log_dict", lambda *_, **__: made.append("speed"))
    data = PretrainDataModule([str(store.path)], batch_size=4, num_workers=0, probe=str(store.path))

    def trainer(steps: int) -> L.Trainer:
        every = [Reconstructions(2), LinearProbe(2), Throughput(2, peak_tflops=1.0)]
        return trainer_of(tmp_path, steps, accumulate_grad_batches=4, callbacks=every)

    first = trainer(4)
    first.fit(task_of(data), datamodule=data)
    due = ["step-0000002.png", "probe", "speed", "step-0000004.png", "probe", "speed"]
    assert made == ["probe", *due]  # the first one is before training
    first.save_checkpoint(tmp_path / "last.ckpt")
    made.clear()
    # A resumed run does not do again what was due at its checkpoint; its last step has a picture.
    trainer(5).fit(task_of(data), datamodule=data, ckpt_path=tmp_path / "last.ckpt")
    assert made == ["step-0000005.png"]


def test_weights_of_two_dimensions_decay_and_no_others(store: ChipStore, tmp_path: Path) -> None:
    data = PretrainDataModule([str(store.path)], batch_size=8, num_workers=0)
    task = task_of(data)
    trainer_of(tmp_path, 1).fit(task, datamodule=data)
    optimizer = task.optimizers(use_pl_optimizer=False)
    assert isinstance(optimizer, torch.optim.Optimizer)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: decay[id(parameter)] for name, parameter in task.named_parameters() if parameter.requires_grad}
    assert found["mae.encoder.cls_token"] == found["mae.decoder.mask_token"] == 0.05
    assert found["mae.encoder.patch_embed.proj.weight"] == 0.05
    assert {value for name, value in found.items() if name.endswith((".bias", "norm.weight"))} == {0.0}


@pytest.mark.filterwarnings("ignore:You.re using the WeightAveraging callback with a model that overrides")
def test_checkpoints_of_weights_alone_hold_the_averages_as_whole_ones_do(store: ChipStore, tmp_path: Path) -> None:
    data = PretrainDataModule([str(store.path)], batch_size=8, num_workers=0)
    whole_ones = ModelCheckpoint(tmp_path / "whole", "{step}", every_n_train_steps=2)
    weights_alone = ModelCheckpoint(tmp_path / "weights", "{step}", every_n_train_steps=1, save_weights_only=True)
    options = {"callbacks": [EMAWeightAveraging(decay=0.5), whole_ones, weights_alone], "enable_checkpointing": True}
    trainer_of(tmp_path, 2, **options).fit(task_of(data, warmup=0.0), datamodule=data)
    whole, weights = (torch.load(tmp_path / kind / "step=2.ckpt", weights_only=True) for kind in ("whole", "weights"))
    assert "optimizer_states" not in weights
    name = "mae.decoder.mask_token"
    assert not torch.equal(whole["state_dict"][name], whole["current_model_state"][name])
    assert weights["state_dict"].keys() == whole["state_dict"].keys()
    assert all(torch.equal(weights["state_dict"][one], value) for one, value in whole["state_dict"].items())


@pytest.mark.slow
def test_the_published_recipe_is_the_default(store: ChipStore, tmp_path: Path) -> None:
    data = PretrainDataModule([str(store.path)], batch_size=8, num_workers=0)
    task = PretrainTask("prithvi_hls_tiny", data.contract.to_dict(), crop=32, model_options=SHAPE)
    rates = []

    class Watch(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer_of(tmp_path, 20, callbacks=[Watch()], accumulate_grad_batches=2).fit(task, datamodule=data)
    rates = rates[::2]
    peak = 5e-4 * 16 / 3840
    assert task.global_batch == 16
    np.testing.assert_allclose(rates[0], 1e-6)
    np.testing.assert_allclose(rates[2], peak)
    np.testing.assert_allclose(rates[11], 4e-9 + (peak - 4e-9) * 0.5, rtol=1e-3)
    (optimizer,) = [task.configure_optimizers()["optimizer"]]
    assert optimizer.defaults["betas"] == (0.9, 0.95)
    assert optimizer.defaults["eps"] == 1e-8
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0.0]
    assert task.mae.config.mask_ratio == 0.75


def test_coordinates_are_left_out_at_random_and_apart(store: ChipStore) -> None:
    data = PretrainDataModule([str(store.path)], batch_size=8, num_workers=0)
    data.setup("fit")
    task = task_of(data, drop_time=0.5, drop_location=0.25)
    dates, places = 0, 0
    for number in range(60):
        batch = data.stream.batch(number)
        time, place = task.prepare(batch, torch.Generator().manual_seed(number), training=True).coordinates
        assert (time[:, 0].isnan().any(dim=1) == time[:, 0].isnan().all(dim=1)).all()
        dates += int(time[:, 0].isnan().any(dim=1).sum())
        places += int(place.isnan().any(dim=1).sum())
    assert abs(dates / 480 - 0.5) < 0.08
    assert abs(places / 480 - 0.25) < 0.08
    time, place = task.prepare(data.stream.batch(0), torch.Generator(), training=False).coordinates
    assert not time[:, 0].isnan().any()
    assert not place.isnan().any()


def cloudy_batch(cloud: slice) -> dict:
    clear = torch.ones(2, 1, 32, 32, dtype=torch.bool)
    clear[:, :, cloud, :] = False
    return {
        "image": torch.randint(0, 5000, (2, 6, 1, 32, 32), dtype=torch.int16),
        "valid": torch.ones(2, 1, 32, 32, dtype=torch.bool),
        "clear": clear,
        "temporal_coords": torch.full((2, 1, 2), torch.nan),
        "location_coords": torch.full((2, 2), torch.nan),
        "id": ["one", "two"],
    }


def test_cloudy_pixels_count_only_where_that_is_asked_for(store: ChipStore) -> None:
    data = PretrainDataModule([str(store.path)], num_workers=0)
    batch = cloudy_batch(slice(0, 16))
    for pixels, differs in (("clear", False), ("all", True), ("valid", True)):
        task = task_of(data, loss_pixels=pixels)
        losses = []
        for value in (100, 9000):
            generator = torch.Generator().manual_seed(1)
            view = task.prepare(batch, generator)
            images, counts, masking, coordinates = view.images, view.counts, view.masking, view.coordinates
            # Only what is compared is changed, not what the encoder sees.
            shown = flags(masking.visible, 16).view(2, 4, 4).repeat_interleave(8, 1).repeat_interleave(8, 2)
            images = torch.where(
                batch["clear"].unsqueeze(1) | shown[:, None, None], images, torch.tensor(value / 1000.0)
            )
            losses.append(float(task.mae.hidden_error(images, masking, counts, *coordinates).loss.detach()))
        assert (abs(losses[0] - losses[1]) > 1e-6) == differs, pixels


def test_masks_of_clouds_hide_every_patch_that_a_cloud_touches(store: ChipStore) -> None:
    data = PretrainDataModule([str(store.path)], num_workers=0)
    batch = cloudy_batch(slice(0, 0))
    batch["clouds"] = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    batch["clouds"][0, 0, 9, 9] = True
    batch["clouds"][1, 0, :, :17] = True
    task = task_of(data, masks={"cloud": 1.0}, flips="none")
    masking: Masking = task.prepare(batch, torch.Generator().manual_seed(0), training=True).masking
    hidden = ~flags(masking.visible, 16).view(2, 4, 4)
    assert hidden[0].nonzero().tolist() == [[1, 1]]
    assert hidden[1].all(dim=0).tolist() == [True, True, True, False]
    del batch["clouds"]
    with pytest.raises(ConfigError, match=r"masks asks for the shapes of clouds.*data\.clouds"):
        task.prepare(batch, torch.Generator().manual_seed(0), training=True)


def test_crops_flips_and_turns_move_image_and_masks_together() -> None:
    rows, columns = torch.meshgrid(torch.arange(20), torch.arange(20), indexing="ij")
    image = torch.stack([rows, columns])[None].repeat(64, 1, 1, 1)
    mask = (rows > columns)[None].repeat(64, 1, 1)
    draws = torch.rand(64, 3, generator=torch.Generator().manual_seed(0))
    cut, moved = views([image, mask], 8, draws, 8)
    assert cut.shape == (64, 2, 8, 8)
    assert torch.equal(cut[:, 0] > cut[:, 1], moved)
    corners = {(tuple(c[:, 0, 0].tolist()), tuple(c[:, -1, -1].tolist())) for c in cut}
    assert len(corners) > 50
    assert cut.min() == 0
    assert cut.max() == 19
    # A square has eight symmetries: the sign of row and column steps, and which of both comes first.
    steps = {tuple((c[:, 0, 1] - c[:, 0, 0]).tolist() + (c[:, 1, 0] - c[:, 0, 0]).tolist()) for c in cut}
    assert len(steps) == 8
    (middle,) = views([image], 8, None)
    assert middle[0, :, 0, 0].tolist() == [6, 6]
    with pytest.raises(ConfigError, match=r"chips of 20 x 20 pixels cannot give crops of 24"):
        views([image], 24, None)


def test_a_loss_that_is_not_finite_stops_with_the_samples(store: ChipStore, tmp_path: Path) -> None:
    data = PretrainDataModule([str(store.path)], batch_size=8, num_workers=0)
    task = task_of(data)
    with torch.no_grad():
        task.mae.decoder.decoder_pred.bias[3] = torch.inf
    with pytest.raises(
        TrainingError, match=r"the loss is (inf|nan) at step 0, for the samples c\d+, c\d+.*last checkpoint"
    ):
        trainer_of(tmp_path, 5).fit(task, datamodule=data)


def test_a_nan_in_a_float_image_is_refused_unless_it_is_marked(store: ChipStore) -> None:
    task = task_of(PretrainDataModule([str(store.path)], num_workers=0))
    batch = cloudy_batch(slice(0, 0))
    batch["image"] = batch["image"].float()
    batch["image"][1, 2, 0, 5, 5] = torch.nan
    with pytest.raises(DatasetError, match=r"an image of the batch one, two holds NaN or infinity"):
        task.prepare(batch, torch.Generator())
    batch["valid"][1, 0, 5, 5] = False
    images = task.prepare(batch, torch.Generator()).images
    assert images.isfinite().all()


def test_one_clear_sentence_for_options_that_do_not_fit(store: ChipStore, tmp_path: Path) -> None:
    data = PretrainDataModule([str(store.path)], batch_size=8, num_workers=0)
    contract = data.contract.to_dict()
    with pytest.raises(ModelError, match=r"1 x 36 x 36 .* does not divide into patches of 1 x 8 x 8"):
        task_of(data, crop=36)
    with pytest.raises(ConfigError, match=r"chips of 32 x 32 pixels cannot give crops of 64"):
        trainer_of(tmp_path, 3).fit(task_of(data, crop=64), datamodule=data)
    with pytest.raises(ConfigError, match=r"masks has no 'cloudy': did you mean cloud"):
        task_of(data, masks={"cloudy": 1.0})
    with pytest.raises(ConfigError, match=r"decode_fraction is 0"):
        task_of(data, decode_fraction=0.0)
    five = {**contract, "bands": contract["bands"][:5], "mean": contract["mean"][:5], "std": contract["std"][:5]}
    with pytest.raises(BandError, match=r"the stores hold blue, .*, swir_1; prithvi_hls_tiny wants"):
        PretrainTask("prithvi_hls_tiny", five)
    endless = L.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                        enable_model_summary=False, accelerator="cpu")  # fmt: skip
    with pytest.raises(ConfigError, match=r"say how many steps"):
        endless.fit(task_of(data), datamodule=data)


def test_fewer_bands_train_when_they_are_named(store: ChipStore) -> None:
    contract = PretrainDataModule([str(store.path)], num_workers=0).contract.select(["red", "nir_narrow"])
    task = PretrainTask(
        "prithvi_hls_tiny", contract.to_dict(), crop=32,
        model_options={**SHAPE, "bands": ["red", "nir_narrow"], "in_chans": 2},
    )  # fmt: skip
    assert task.mae.config.bands == ("red", "nir_narrow")
    assert task.mae.config.mean == contract.mean


def test_the_model_folder_loads_and_says_how_it_was_made(store: ChipStore, tmp_path: Path) -> None:
    from prithvi.modelio import save_pretrained

    data = PretrainDataModule([str(store.path)], num_workers=0)
    task = task_of(data)
    folder = save_pretrained(task.mae, tmp_path / "model", {"data": data.described, "steps": 3}, "## Results\n\nNone.")
    again = load(folder)
    for name, value in again.state_dict().items():
        assert torch.equal(value, task.mae.state_dict()[name]), name
    assert again.contract == task.contract
    plain = json.loads((folder / "config.json").read_text())
    assert plain["training"]["steps"] == 3
    card = (folder / "README.md").read_text()
    assert "chips.zarr" in card
    assert "## Results" in card
    assert task_of(data, init=str(folder)).report.startswith(f"{len(task.mae.state_dict())} tensors matched")


def test_a_decoder_is_trained_under_an_encoder_that_stays_as_it_was(store: ChipStore, tmp_path: Path) -> None:
    data = PretrainDataModule([str(store.path)], batch_size=8, num_workers=0)
    first = task_of(data, model_options={**SHAPE, "blend_fill": False})
    save_pretrained(first.mae, tmp_path / "first", {"steps": 3})
    before = {name: value.clone() for name, value in first.mae.encoder.state_dict().items()}
    task = task_of(data, init=str(tmp_path / "first"), freeze_encoder=True, loss="l1")
    assert "decoder_gate" in task.report  # which the first one had not
    decoder = {name: value.clone() for name, value in task.mae.decoder.state_dict().items()}
    trainer_of(tmp_path, 3).fit(task, datamodule=data)
    after = task.mae.encoder.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not torch.equal(decoder["decoder_pred.weight"], task.mae.decoder.decoder_pred.weight)
    with pytest.raises(ConfigError, match="say init"):
        task_of(data, freeze_encoder=True)
