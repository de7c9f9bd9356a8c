"""The per-pixel branch: indices from standardised bands, dates, and tokens through a gate that begins shut."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from prithvi.contract import Contract
from prithvi.errors import CheckpointError, ModelError
from prithvi.modelio import save_pretrained
from prithvi.models import Segmenter, build, checkpoint
from prithvi.models.branch import Indices, PixelBranch, channels_of, date_planes
from prithvi.models.pixel_features import pairs_of
from prithvi.models.zoo import configure
from prithvi.tasks import SegmentationTask

SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2, "decoder_embed_dim": 16, "decoder_depth": 1, "pixel_width": 8}
NAMES = ("water", "land", "land/trees", "land/grass")


def test_indices_of_standardised_bands_are_those_of_the_reflectance() -> None:
    config = configure("prithvi_hls_tiny")
    mean, std = (torch.tensor(values).view(1, 6, 1, 1) for values in (config.mean, config.std))
    reflectance = torch.rand(3, 6, 4, 5) * 4000 + 500
    found = Indices(config.bands, config.mean, config.std)((reflectance - mean) / std)
    _blue, green, red, nir, swir_1, swir_2 = reflectance.unbind(dim=1)
    pairs = {"ndvi": (nir, red), "ndwi": (green, nir), "mndwi": (green, swir_1), "ndmi": (nir, swir_1)}
    pairs["nbr"] = (nir, swir_2)
    assert list(pairs_of(config.bands)) == list(pairs)
    expected = torch.stack([(a - b) / (a + b) for a, b in pairs.values()], dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_indices_of_dark_ground_are_not_noise_and_never_beyond_one() -> None:
    config = configure("prithvi_hls_tiny")
    mean, std = (torch.tensor(values).view(1, 6, 1, 1) for values in (config.mean, config.std))
    dark = torch.zeros(1, 6, 2, 2)
    dark[0, 1, 0, 0], dark[0, 1, 0, 1], dark[0, 4, 0, 1] = 2.0, -300.0, 100.0
    found = Indices(config.bands, config.mean, config.std)((dark - mean) / std)
    assert found.abs().max() <= 1
    assert abs(float(found[0, 2, 0, 0])) < 0.02  # (2 - 0) / (2 + 0) would be 1


def test_only_indices_of_bands_that_are_there_are_made() -> None:
    assert channels_of(("green", "nir_broad")) == ("green", "nir_broad", "ndwi", "date_sin", "date_cos")
    assert channels_of(("blue", "coastal")) == ("blue", "coastal", "date_sin", "date_cos")
    config = configure("prithvi_hls_tiny", bands=["blue", "green"])
    assert PixelBranch(config)(torch.zeros(1, 2, 4, 8, 8)).shape == (1, 2, 32, 8, 8)


def test_the_day_of_year_stands_beside_the_bands_and_an_unknown_date_is_zero() -> None:
    images = torch.zeros(2, 6, 2, 3, 3)
    dates = torch.tensor([[[2020.0, 0.0], [2020.0, 365.25 / 4]], [[np.nan, np.nan], [2021.0, 365.25 / 2]]])
    planes = date_planes(images, dates)
    assert planes.shape == (2, 2, 2, 3, 3)
    expected = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, -1.0]]])
    torch.testing.assert_close(planes[..., 0, 0], expected.transpose(1, 2), atol=1e-6, rtol=0)
    assert not date_planes(images, None).any()


def test_a_pixel_is_seen_in_its_surroundings_and_beside_its_other_dates() -> None:
    """Each pixel depends on 5 x 5 pixels of its date, and through their mean on those of all dates."""
    torch.manual_seed(0)
    branch = PixelBranch(configure("prithvi_hls_tiny", **SMALL))
    pixels = torch.randn(1, 2, 8, 16, 16, requires_grad=True)
    branch(pixels)[0, 0, :, 8, 8].sum().backward()
    assert pixels.grad is not None
    seen = pixels.grad.abs().sum(dim=2)[0] > 0
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[6:11, 6:11] = True
    assert not seen[:, ~inside].any()
    assert seen[:, inside].float().mean() > 0.9


def test_one_date_gives_what_the_same_date_twice_gives() -> None:
    torch.manual_seed(0)
    branch = PixelBranch(configure("prithvi_hls_tiny", **SMALL))
    pixels = torch.randn(2, 1, 8, 16, 16)
    torch.testing.assert_close(branch(pixels.repeat(1, 2, 1, 1, 1))[:, 1:], branch(pixels))


def test_the_tokens_add_nothing_before_training_and_learn_from_the_first_step() -> None:
    torch.manual_seed(0)
    model = Segmenter(configure("prithvi_hls_tiny", img_size=32, **SMALL), 3, "fused")
    images = torch.randn(2, 6, 1, 32, 32)
    before = model(images)
    assert model.encoder is not None
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.add_(torch.randn_like(parameter))
    torch.testing.assert_close(model(images), before)
    model(images).square().mean().backward()
    gate = model.head.branch.fusion.gate  # type: ignore[union-attr]
    assert gate.grad is not None
    assert gate.grad.abs().sum() > 0


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("name", ["prithvi_hls_tiny", "prithvi_eo_v2_tiny_tl"])
def test_the_fused_head_maps_pixels_with_each_shape(name: str, frames: int) -> None:
    patch = configure(name).patch_size[1]
    small = {"embed_dim": 32, "depth": 1, "num_heads": 2} | ({"pixel_width": 8} if "hls" in name else {})
    model = Segmenter(configure(name, frames, 2 * patch, **small), 2, "fused").eval()
    images = torch.randn(1, 6, frames, 2 * patch, 2 * patch)
    dates = torch.tensor([[[2020.0, 30.0 * date] for date in range(frames)]])
    scores = model(images, dates)
    assert scores.shape == (1, 2, 2 * patch, 2 * patch)
    assert not torch.allclose(scores, model(images, dates + 90))
    moved = images.clone()
    moved[0, :, 0, 5, 7] += 1.0  # what one pixel shows changes the answers at most two pixels away: the gate is shut
    changed = (model(moved, dates) != scores).any(dim=1)[0].nonzero()
    assert changed[:, 0].min() >= 3
    assert changed[:, 0].max() <= 7
    assert changed[:, 1].min() >= 5
    assert changed[:, 1].max() <= 9


def pretrained(folder: Path, **options: object) -> Path:
    torch.manual_seed(1)
    mae = build("prithvi_hls_tiny", img_size=32, **SMALL, labels=NAMES, **options)
    with torch.no_grad():
        for parameter in mae.branch.parameters():  # type: ignore[union-attr]
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_pretrained(mae, folder, {})
    return folder


def task_of(init: str | None, classes: list[str], **options: object) -> SegmentationTask:
    config = configure("prithvi_hls_tiny", img_size=32, **SMALL)
    settings: dict[str, object] = {"model_options": SMALL, "window": 32, "statistics": "init" if init else "data"}
    return SegmentationTask(
        classes, contract=config.contract.to_dict(), init=init, head="fused", **{**settings, **options}
    )  # type: ignore[arg-type]


def test_a_fused_head_begins_as_the_branch_that_was_pretrained(tmp_path: Path) -> None:
    folder = pretrained(tmp_path / "model")
    mae = checkpoint.read(folder / "model.safetensors")[0]
    task = task_of(str(folder), ["forest", "sea"])
    for name, values in task.model.head.branch.state_dict().items():  # type: ignore[union-attr]
        # How far the tokens are let in is learned anew.
        expected = torch.zeros_like(values) if name == "fusion.gate" else mae[f"branch.{name}"]
        torch.testing.assert_close(values, expected)
    assert mae["branch.fusion.gate"].abs().min() > 0
    assert "fresh" not in str(task.init_report)


def test_classes_of_the_same_name_begin_as_the_labels_that_were_learned(tmp_path: Path) -> None:
    """The fine-tuned model's first answers are then those of the autoencoder with its gate shut."""
    folder = pretrained(tmp_path / "model")
    task = task_of(str(folder), ["Water", "land"]).eval()
    import prithvi

    mae = prithvi.load(folder)
    images = torch.randn(2, 6, 1, 32, 32)
    with torch.no_grad():
        first = mae.label_scores(images, shut=torch.tensor([True, True]))  # type: ignore[union-attr]
        torch.testing.assert_close(task.model(images), first[:, :2])
    kinds = task_of(str(folder), ["trees", "grass", "water"]).eval()
    with torch.no_grad():
        scores = kinds.model(images)
    torch.testing.assert_close(scores, first[:, [2, 3, 0]])


def test_a_class_that_was_not_learned_lets_all_begin_at_random(tmp_path: Path) -> None:
    folder = pretrained(tmp_path / "model")
    learned = checkpoint.read(folder / "model.safetensors")[0]["pixel_decoder.labels.weight"]
    task = task_of(str(folder), ["water", "burnt"])
    assert not torch.equal(task.model.head.classifier.weight[0], learned[0])  # type: ignore[union-attr,index]


def test_a_branch_for_other_bands_keeps_the_weights_of_those_that_both_have(tmp_path: Path) -> None:
    folder = pretrained(tmp_path / "model")
    wanted = build("prithvi_hls_tiny", img_size=32, bands=["nir_narrow", "green"], **SMALL, labels=NAMES)
    report = checkpoint.load(wanted, folder / "model.safetensors", configure("prithvi_hls_tiny").bands)
    before = checkpoint.read(folder / "model.safetensors")[0]["branch.pixels.convolutions.0.weight"]
    names = channels_of(configure("prithvi_hls_tiny").bands)
    own = channels_of(("nir_narrow", "green"))
    after = wanted.branch.pixels.convolutions[0].weight  # type: ignore[union-attr]
    assert own == ("nir_narrow", "green", "ndwi", "date_sin", "date_cos")
    for place, name in enumerate(own):
        torch.testing.assert_close(after[:, place], before[:, names.index(name)])  # type: ignore[index]
    assert any("branch.pixels" in entry for entry in report.mapped)


def test_published_weights_leave_the_branch_as_it_began(tmp_path: Path) -> None:
    published = build("prithvi_eo_v2_tiny_tl", embed_dim=32, depth=1, num_heads=2, decoder_depth=1)
    save_file({k: v.contiguous() for k, v in published.state_dict().items()}, tmp_path / "weights.safetensors")
    model = Segmenter(configure("prithvi_eo_v2_tiny_tl", embed_dim=32, depth=1, num_heads=2), 2, "fused")
    before = {name: value.clone() for name, value in model.head.state_dict().items()}
    report = checkpoint.load(model, tmp_path / "weights.safetensors")
    assert report.fresh
    assert all(entry.startswith("branch.") for entry in report.fresh)
    for name, value in model.head.state_dict().items():
        torch.testing.assert_close(value, before[name])
    torch.testing.assert_close(model.encoder.cls_token, published.encoder.cls_token)  # type: ignore[union-attr]


def test_a_folder_of_before_the_branch_opens_as_it_was(tmp_path: Path) -> None:
    """Its config.json says nothing of a branch, and the variant of its name has one now."""
    import prithvi

    old = build("prithvi_hls_tiny", patch_size=(1, 4, 4), pixel_width=0, embed_dim=32, num_heads=2, depth=1)
    save_pretrained(old, tmp_path / "old", {})
    file = tmp_path / "old" / "config.json"
    plain = json.loads(file.read_text())
    for field in ("pixel_width", "labels"):
        del plain["pretrained_cfg"][field]
    file.write_text(json.dumps(plain))
    again = prithvi.load(tmp_path / "old")
    assert again.config == old.config  # type: ignore[union-attr]
    torch.manual_seed(0)
    images = torch.randn(1, 6, 1, 64, 64)
    visible = torch.rand(1, 256) < 0.5
    with torch.no_grad():
        torch.testing.assert_close(again(images, visible=visible).pred, old.eval()(images, visible=visible).pred)  # type: ignore[operator,union-attr]


def test_labels_without_a_branch_and_scores_without_labels_are_refused() -> None:
    with pytest.raises(ModelError, match=r"pixel_width is 0; it is 0 or more, and above 0 to learn labels"):
        build("prithvi_eo_tiny", labels=("water",))
    mae = build("prithvi_hls_tiny", img_size=32, **SMALL)
    with pytest.raises(ModelError, match="learned no labels beside the reconstruction"):
        mae.label_scores(torch.zeros(1, 6, 1, 32, 32))
    with pytest.raises(ModelError, match="has no per-pixel branch"):
        build("prithvi_eo_tiny", depth=1, decoder_depth=1).pixel_features(torch.zeros(1, 6, 1, 224, 224))


def test_a_branch_of_another_width_does_not_load_by_half(tmp_path: Path) -> None:
    folder = pretrained(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"nothing was loaded.*branch\.pixels"):
        task_of(str(folder), ["water", "land"], model_options={**SMALL, "pixel_width": 16})


def test_contracts_of_other_scales_give_the_same_indices() -> None:
    """uint8 reflectance x 255 has the indices of the same reflectance x 10,000."""
    ten = configure("prithvi_hls_tiny")
    factor = 255 / 10_000
    small = Contract(ten.bands, tuple(m * factor for m in ten.mean), tuple(s * factor for s in ten.std), scale=255.0)
    standardised = torch.randn(1, 6, 3, 3)
    torch.testing.assert_close(
        Indices(small.bands, small.mean, small.std)(standardised), Indices(ten.bands, ten.mean, ten.std)(standardised)
    )
