"""The task by its promises: what is ignored stays ignored, what is moved moves together, what is learnt is kept."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from prithvi.catalog import dataset
from prithvi.data import Chip, ChipDataset
from prithvi.errors import CheckpointError, ConfigError, DatasetError
from prithvi.metrics import IGNORE
from prithvi.modelio import load, open_folder, save
from prithvi.modelio.predictor import FittedModel
from prithvi.models import build
from prithvi.tasks.augment import flip_and_turn
from prithvi.tasks.optimizer import fine_tuning
from prithvi.tasks.sliding import blended, windows_of
from tests.conftest import SPAIN, SPAIN_LABEL, needs_lora, small_task


def batch(size: int = 32, count: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randint(200, 4000, (count, 6, 1, size, size), generator=generator, dtype=torch.int16),
        "valid": torch.ones(count, 1, size, size, dtype=torch.bool),
        "label": torch.randint(0, 2, (count, size, size), generator=generator),
    }


def test_ignored_labels_and_missing_pixels_change_no_loss() -> None:
    task = small_task(class_weights=[0.3, 0.7]).eval()
    data = batch()
    data["label"][0, :10] = IGNORE
    data["valid"][1, 0, 5:9] = False
    scores = task(data)
    label = task.label_of(data)
    assert (label[1, 5:9] == IGNORE).all()
    by_hand = torch.nn.functional.cross_entropy(scores, label, torch.tensor([0.3, 0.7]), ignore_index=IGNORE)
    assert float(task.loss(scores, label).detach()) == pytest.approx(float(by_hand.detach()), abs=1e-6)
    changed = scores.clone()
    changed[0, :, :10] += 100
    changed[1, :, 5:9] -= 50
    assert torch.equal(task.loss(changed, label), task.loss(scores, label))


def test_a_batch_without_any_label_has_loss_zero_and_a_gradient() -> None:
    task = small_task()
    data = batch()
    data["label"][:] = IGNORE
    loss = task.loss(task(data), task.label_of(data))
    assert float(loss.detach()) == 0
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in task.parameters() if p.grad is not None)


class Labelled(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """A dataset of somebody's own, whose masks are bytes with 255 where nothing is labelled."""

    def __init__(self, unlabelled: bool) -> None:
        self.unlabelled = unlabelled

    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        sample = {name: value[number] for name, value in batch().items()}
        label = sample["label"].to(torch.uint8)
        label[:4] = 255
        if self.unlabelled:
            label = label.long()
            label[label == 255] = -1
        return {**sample, "label": label}


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not", "ignore:You defined a .valid")
@pytest.mark.parametrize("part", ["fit", "validate"])
def test_a_label_that_is_no_class_is_named_with_what_to_write(part: str) -> None:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = L.Trainer(max_steps=1, enable_checkpointing=False, num_sanity_val_steps=0, limit_val_batches=1, **quiet)
    with pytest.raises(DatasetError, match=r"hold 255, and the classes are 0 to 1: .*label\[label == 255\] = -1"):
        getattr(trainer, part)(small_task(), DataLoader(Labelled(unlabelled=False), 2))
    getattr(trainer, part)(small_task(), DataLoader(Labelled(unlabelled=True), 2))


def test_a_band_that_the_weights_lack_begins_with_random_ones_where_it_is_said() -> None:
    contract = small_task().contract.to_dict()
    for key, value in (("bands", "red_edge_1"), ("mean", 1500.0), ("std", 500.0)):
        contract[key] = [*contract[key], value]
    with pytest.raises(CheckpointError, match=r"no weights for red_edge_1: .*--model\.new_bands true"):
        small_task(init="prithvi_hls_tiny", contract=contract, model_options={})
    with pytest.raises(ConfigError, match="no mean and standard deviation of red_edge_1: take those of the data"):
        small_task(init="prithvi_hls_tiny", contract=contract, model_options={}, new_bands=True, statistics="init")
    task = small_task(init="prithvi_hls_tiny", contract=contract, model_options={}, new_bands=True)
    assert task.init_report is not None
    assert "red_edge_1" in task.init_report.fresh
    data = batch()
    data["image"] = torch.cat([data["image"], data["image"][:, :1]], dim=1)
    assert torch.isfinite(task(data)).all()


def test_losses_add_up_and_an_unknown_one_is_refused() -> None:
    data = batch()
    both, one, other = (small_task(loss=name).eval() for name in ("ce+dice", "ce", "dice"))
    scores, label = one(data), one.label_of(data)
    torch.testing.assert_close(both.loss(scores, label), one.loss(scores, label) + other.loss(scores, label))
    with pytest.raises(ConfigError, match="no loss 'dise': did you mean dice"):
        small_task(loss="ce+dise")


def test_earlier_blocks_learn_slower_with_layer_decay() -> None:
    task = small_task(lr=1e-3, layer_decay=0.5)
    optimizer = fine_tuning(task, 10, lr=1e-3, weight_decay=0.05, warmup=0.0, layer_decay=0.5)["optimizer"]
    rates = {id(p): group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
    depth = len(task.model.encoder.blocks)
    named = dict(task.named_parameters())
    assert rates[id(named["model.head.linear.weight"])] == 1e-3
    for number in range(depth):
        rate = rates[id(named[f"model.encoder.blocks.{number}.attn.qkv.weight"])]
        assert rate == pytest.approx(1e-3 * 0.5 ** (depth - 1 - number))
    assert rates[id(named["model.encoder.patch_embed.proj.weight"])] == pytest.approx(1e-3 * 0.5**depth)
    assert len(rates) == len([p for p in task.parameters() if p.requires_grad])


def test_the_default_loss_runs_on_the_real_label_with_minus_one() -> None:
    task = small_task()
    data = next(iter(DataLoader(ChipDataset([Chip("s", SPAIN, SPAIN_LABEL)], dataset("sen1floods11")), 1)))
    assert (data["label"] == -1).sum() == 99
    loss = task.loss(task(data), task.label_of(data))
    assert torch.isfinite(loss)


def test_nan_in_an_image_reaches_no_score() -> None:
    task = small_task().eval()
    data = batch()
    data["image"] = data["image"].float()
    data["image"][0, 2, 0, 3, 3] = float("nan")
    assert torch.isfinite(task(data)).all()


def test_images_masks_and_labels_move_together() -> None:
    y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    code = (8 * y + x)[None]
    seen = set()
    torch.manual_seed(0)
    for _ in range(60):
        moved = flip_and_turn(
            {"image": code[None, None].float(), "valid": code[None] % 3 == 0, "label": code, "id": "a"}
        )
        assert torch.equal(moved["image"][0, 0, 0].long(), moved["label"][0])
        assert torch.equal(moved["valid"][0, 0], moved["label"][0] % 3 == 0)
        seen.add(tuple(moved["label"].flatten().tolist()))
    assert len(seen) == 8


def test_larger_images_are_blended_from_windows() -> None:
    images = torch.randn(1, 2, 1, 50, 70)
    constant = blended((torch.full((1, 3, 16, 16), 0.5) for _ in windows_of(images, 16)), 50, 70, 16)
    assert torch.allclose(constant, torch.full((1, 3, 50, 70), 0.5))
    same = blended((part[:, :, 0] for part in windows_of(images, 16)), 50, 70, 16)
    assert torch.allclose(same, images[:, :, 0], atol=1e-5)
    tiny = torch.randn(1, 2, 1, 5, 40)
    back = blended((part[:, :, 0] for part in windows_of(tiny, 16)), 5, 40, 16)
    assert torch.allclose(back, tiny[:, :, 0], atol=1e-5)


def test_validation_and_mapping_see_the_same_scores(six_bands, write_tif, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    import rasterio

    from prithvi.mapping import map_scene
    from prithvi.scenes import open_scene

    task = small_task().eval()
    part = six_bands[:, :90, :70]
    with torch.no_grad():
        expected = task({"image": torch.from_numpy(part)[None, :, None]}).argmax(dim=1)[0]
    with rasterio.open(map_scene(task.fitted(), open_scene(write_tif(part)), tmp_path / "m.tif").path) as made:
        assert (made.read(1) == expected.numpy()).mean() > 0.999  # a tie of scores may fall either way


def test_it_learns() -> None:
    """A model that cannot fit eight windows of one image is broken."""
    L.seed_everything(0, verbose=False)
    task = small_task(lr=3e-3, augment=False)
    chip = Chip("s", SPAIN, SPAIN_LABEL, rows=(0, 64), columns=(350, 414))
    data = next(iter(DataLoader(ChipDataset([chip], dataset("sen1floods11"), 32, 8), 8)))
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    first = last = 0.0
    for step in range(60):
        loss = task.loss(task(data), task.label_of(data))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first, last = (float(loss.detach()), last) if step == 0 else (first, float(loss.detach()))
    assert last < 0.5 * first


def test_a_frozen_encoder_does_not_move(tmp_path: Path) -> None:
    task = small_task(finetune="frozen", lr=1e-2)
    before = {key: value.clone() for key, value in task.model.state_dict().items()}
    trainer = L.Trainer(
        max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, num_sanity_val_steps=0,
    )  # fmt: skip
    data = ChipDataset([Chip("s", SPAIN, SPAIN_LABEL)], dataset("sen1floods11"), 32, 4)
    trainer.fit(task, DataLoader(data, 2), DataLoader(data, 1))
    for key, value in task.model.state_dict().items():
        assert torch.equal(value, before[key]) == key.startswith("encoder."), key


@needs_lora
def test_a_lora_run_saves_and_reloads_to_the_same_outputs(tmp_path: Path) -> None:
    task, data = small_task(finetune="lora", lora_rank=4, lr=1e-2), batch()
    before = {name: value.clone() for name, value in task.model.encoder.state_dict().items()}
    trainer = L.Trainer(
        max_steps=5, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path, enable_checkpointing=False, num_sanity_val_steps=0,
    )  # fmt: skip
    chips = ChipDataset([Chip("s", SPAIN, SPAIN_LABEL)], dataset("sen1floods11"), 32, 10)
    trainer.fit(task, DataLoader(chips, 2), DataLoader(chips, 10))
    moved = {name for name, value in task.model.encoder.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all("lora_" in name for name in moved)
    scores = task.eval()(data)
    trainer.save_checkpoint(tmp_path / "lora.ckpt")
    again = type(task).load_from_checkpoint(tmp_path / "lora.ckpt", weights_only=True).eval()
    assert torch.equal(again(data), scores)
    # The model folder knows nothing of peft.
    fitted = open_folder(save(task.fitted(), tmp_path / "model"))
    assert set(fitted.model.state_dict()) == set(small_task().model.state_dict())
    torch.testing.assert_close(fitted.model(task.standardise(data["image"], data["valid"])), scores, rtol=0, atol=1e-5)
    assert any("lora_" in name for name in task.state_dict())  # saving changed nothing
    with pytest.raises(ConfigError, match="finetune has no 'lore': did you mean lora"):
        small_task(finetune="lore")


def test_a_temperature_is_fitted_kept_and_changes_no_class(tmp_path: Path) -> None:
    task = small_task()
    chips = [batch(32, 1)]
    guess = task.eval()(chips[0]).argmax(dim=1)
    wrong = torch.rand(guess.shape, generator=torch.Generator().manual_seed(0)) < 0.2
    chips[0]["label"] = torch.where(wrong, 1 - guess, guess)
    temperature = task.calibrate(chips)
    assert temperature != 1.0
    label, scores = task.label_of(chips[0]), task.eval()(chips[0])

    def cost(at: float) -> float:
        return float(torch.nn.functional.cross_entropy(scores / at, label, ignore_index=IGNORE).detach())

    assert cost(temperature) < min(cost(0.8 * temperature), cost(1.25 * temperature), cost(1.0))
    assert open_folder(save(task.fitted(), tmp_path / "model")).temperature == temperature
    chips[0]["label"][:] = IGNORE
    assert task.calibrate(chips) == 1.0


def test_a_task_starts_from_given_weights(tmp_path: Path) -> None:
    torch.manual_seed(7)
    source = build("prithvi_hls_tiny", embed_dim=64, depth=2, num_heads=2, coords_encoding=("time", "location"))
    torch.save(source.state_dict(), tmp_path / "w.pt")
    task = small_task(init=str(tmp_path / "w.pt"))
    assert task.init_report is not None
    assert task.init_report.complete
    assert torch.equal(task.model.encoder.blocks[1].mlp.fc1.weight, source.encoder.blocks[1].mlp.fc1.weight)
    with pytest.raises(CheckpointError, match="does not fit prithvi_hls_tiny"):
        small_task(init=str(tmp_path / "w.pt"), model_options={"embed_dim": 64, "depth": 3, "num_heads": 2})


def test_a_lightning_checkpoint_reopens_without_pickled_classes(tmp_path: Path) -> None:
    task = small_task()
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(tmp_path / "task.ckpt")
    again = type(task).load_from_checkpoint(tmp_path / "task.ckpt", weights_only=True)
    data = batch()
    with torch.no_grad():
        assert torch.equal(again.eval()(data), task.eval()(data))
    other = small_task(init=str(tmp_path / "task.ckpt"))
    assert torch.equal(other.model.encoder.cls_token, task.model.encoder.cls_token)


def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 class weights for 2 classes"):
        small_task(class_weights=[1.0, 2.0, 3.0])
    with pytest.raises(ConfigError, match="needs contract= and classes="):
        small_task(classes=None)


def test_a_model_folder_keeps_everything(tmp_path: Path) -> None:
    task = small_task().eval()
    folder = save(task.fitted(steps=3, data="Spain"), tmp_path / "model")
    fitted = load(folder)
    assert isinstance(fitted, FittedModel)
    images = torch.randn(1, 6, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(fitted.model(images), task.model(images))
    assert fitted.contract == task.contract
    assert [entry.name for entry in fitted.classes] == ["land", "water"]
    assert fitted.provenance == {"steps": 3, "data": "Spain"}
    assert "| steps | 3 |" in (folder / "README.md").read_text()
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "item.json",
        "model.safetensors",
    ]
    save(small_task().fitted(), folder)  # replaced when the new one is whole
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_damaged_model_folder_is_refused(model_folder: Path, tmp_path: Path) -> None:
    import json
    import shutil

    copy = shutil.copytree(model_folder, tmp_path / "copy")
    plain = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**plain, "format": "prithvi-model/9"}))
    with pytest.raises(ConfigError, match="format 'prithvi-model/9'"):
        open_folder(copy)
    (copy / "config.json").write_text(json.dumps({key: plain[key] for key in plain if key != "window"}))
    with pytest.raises(ConfigError, match="not complete: KeyError 'window'"):
        open_folder(copy)
