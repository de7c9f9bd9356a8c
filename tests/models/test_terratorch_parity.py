"""The same weights give the same numbers here and in TerraTorch's own classes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from prithvi.models import VARIANTS, PrithviMAE, build
from prithvi.models.masking import random_visible

terratorch_mae = pytest.importorskip("terratorch.models.backbones.prithvi_mae", reason="needs the terratorch extra")

SLOW = pytest.mark.slow
COORDINATES = ("none", pytest.param("time", marks=SLOW), pytest.param("place", marks=SLOW), "both")
PUBLISHED = [
    pytest.param(name, marks=[] if "tiny" in name else [SLOW])
    for name in VARIANTS if name.startswith("prithvi_eo")
]  # fmt: skip
DATES = [1, *(pytest.param(dates, marks=SLOW) for dates in (2, 3, 4, 6))]


def reference(model: PrithviMAE) -> Any:
    """TerraTorch's model of the same shape, with `model`'s weights, each side's file loading into the other."""
    plain = dataclasses.asdict(model.config)
    theirs = terratorch_mae.PrithviMAE(**plain).eval().to(next(model.parameters()).dtype)
    assert {k: v.shape for k, v in theirs.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    theirs.load_state_dict(model.state_dict(), strict=True)
    model.load_state_dict(theirs.state_dict(), strict=True)
    return theirs


def randomised(name: str, **options: Any) -> PrithviMAE:
    """A model in which no bias is 0 and no norm is 1, so that a forgotten one shows."""
    torch.manual_seed(3)
    model = build(name, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def inputs(model: PrithviMAE, given: str, batch: int = 2) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    config = model.config
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(batch, config.in_chans, config.num_frames, *config.img_size, generator=generator)
    coordinates: dict[str, torch.Tensor] = {}
    if given in ("time", "both"):
        days = torch.rand(batch, config.num_frames, generator=generator) * 365
        coordinates["temporal_coords"] = torch.stack([2017 + days % 7 // 1, days // 1], dim=-1)
    if given in ("place", "both"):
        coordinates["location_coords"] = torch.tensor([[37.7, -122.4], [-33.9, 151.2]])[:batch]
    return images, coordinates


def assert_equal_models(model: PrithviMAE, given: str, batch: int = 2, tolerance: float = 1e-5) -> None:
    theirs = reference(model)
    images, coordinates = inputs(model, given, batch)
    images = images.to(next(model.parameters()).dtype)
    with torch.no_grad():
        expected = theirs.encoder.forward_features(images, **coordinates)
        found = model.encoder.forward_features(images, **coordinates)
        assert len(found) == len(expected) == model.config.depth
        for ours, their in zip(found, expected, strict=True):
            assert (ours - their).abs().max() <= tolerance * max(1.0, float(their.abs().max()))
        assert (found[-1] - expected[-1]).abs().max() <= tolerance

        # One seed hides the same patches in both.
        torch.manual_seed(11)
        their_loss, their_pred, their_mask = theirs(images, **coordinates, mask_ratio=0.75)
        torch.manual_seed(11)
        output = model(images, **coordinates)
        hidden = output.mask.unsqueeze(-1).expand(-1, -1, images.shape[1] * _patch_values(model))
        assert torch.equal(_as_pixels(hidden, model)[:, 0].bool(), their_mask.bool())
        assert (output.pred - their_pred).abs().max() <= tolerance
        assert abs(float(output.loss - their_loss["loss"])) <= tolerance


def _patch_values(model: PrithviMAE) -> int:
    s, p, q = model.config.patch_size
    return s * p * q


def _as_pixels(patches: torch.Tensor, model: PrithviMAE) -> torch.Tensor:
    from prithvi.models.layers import to_images

    config = model.config
    return to_images(patches.float(), config.patch_size, config.grid(config.num_frames, *config.img_size))


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_variant_at_its_own_depth(name: str) -> None:
    # 600M: 8 of 32 blocks and two dates keep the test within 24 GiB and a minute; every other one is whole.
    depth = {"depth": 8} if "600" in name else {}
    given = "both" if name.endswith("_tl") else "none"
    large = "300" in name or "600" in name
    assert_equal_models(randomised(name, num_frames=2 if large else None, **depth), given, batch=1)


@pytest.mark.parametrize("frames", DATES)
@pytest.mark.parametrize("size", [(224, 224), pytest.param((224, 320), marks=SLOW)])
def test_dates_and_rectangles_with_patches_of_16(frames: int, size: tuple[int, int]) -> None:
    assert_equal_models(
        randomised("prithvi_eo_v2_100_tl", num_frames=frames, img_size=size, depth=2, decoder_depth=1), "both"
    )


@pytest.mark.parametrize("frames", [pytest.param(frames, marks=SLOW) for frames in (1, 2, 3, 4, 6)])
def test_dates_and_rectangles_with_patches_of_14(frames: int) -> None:
    assert_equal_models(
        randomised("prithvi_eo_v2_600_tl", num_frames=frames, img_size=(224, 322), depth=2, decoder_depth=1), "both"
    )


@pytest.mark.parametrize("given", COORDINATES)
@pytest.mark.parametrize("name", ["prithvi_eo_v2_tiny_tl", pytest.param("prithvi_eo_v2_600_tl", marks=SLOW)])
def test_coordinates_given_partly_given_and_missing(name: str, given: str) -> None:
    assert_equal_models(randomised(name, num_frames=3, depth=3, decoder_depth=2), given)


@pytest.mark.parametrize("name", PUBLISHED)
def test_much_closer_in_float64(name: str) -> None:
    given = "both" if name.endswith("_tl") else "none"
    model = randomised(name, num_frames=2, depth=4, decoder_depth=2).double()
    assert_equal_models(model, given, batch=1, tolerance=1e-11)


@pytest.mark.parametrize("size", [(64, 144), *(pytest.param(size, marks=SLOW) for size in ((256, 256), (224, 320)))])
@pytest.mark.parametrize("frames", [1, 3])
def test_inputs_of_another_size_than_the_model_was_built_for(size: tuple[int, int], frames: int) -> None:
    """Position codes are interpolated, and computed anew for other dates, as TerraTorch does (4 x 9 patches too)."""
    model = randomised("prithvi_eo_v2_300", num_frames=4, depth=2, decoder_depth=1)
    theirs = reference(model)
    images = torch.randn(1, 6, frames, *size)
    with torch.no_grad():
        expected = theirs.encoder.forward_features(images)[-1]
        assert (model.encoder.forward_features(images)[-1] - expected).abs().max() <= 1e-5
        torch.manual_seed(0)
        loss, pred, _ = theirs(images)
        torch.manual_seed(0)
        output = model(images)
        assert (output.pred - pred).abs().max() <= 1e-5
        assert abs(float(output.loss - loss["loss"])) <= 1e-5


def test_loss_on_standardised_patches() -> None:
    assert_equal_models(randomised("prithvi_eo_tiny", norm_pix_loss=True), "none")


def test_gradients_are_the_same() -> None:
    model = randomised("prithvi_eo_v2_tiny_tl", depth=3, decoder_depth=2)
    theirs = reference(model)
    images, coordinates = inputs(model, "both")
    torch.manual_seed(2)
    theirs(images, **coordinates)[0]["loss"].backward()
    torch.manual_seed(2)
    model(images, **coordinates).loss.backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad - expected[name].grad).abs().max() <= 1e-5, name


def test_the_random_draw_is_the_published_one() -> None:
    theirs = terratorch_mae.PrithviViT(in_chans=6, embed_dim=64, depth=1, num_heads=2)
    torch.manual_seed(9)
    _, mask, _ = theirs.random_masking(torch.zeros(3, 200, 4), 0.6)
    torch.manual_seed(9)
    assert torch.equal(~random_visible(3, 200, 0.6, torch.device("cpu")), mask.bool())
