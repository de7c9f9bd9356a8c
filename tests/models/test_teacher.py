"""A teacher is shown what it was trained on, and two patch grids are compared by area."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from prithvi.contract import Contract
from prithvi.errors import ConfigError
from prithvi.models import Standardise, build
from prithvi.models.teacher import Targets, Teacher, area_weights, on_grid, pooled

SIX = ("blue", "green", "red", "nir_narrow", "swir_1", "swir_2")
DATA = Contract(SIX, (1000.0,) * 6, (900.0,) * 6)
SMALL = {"embed_dim": 32, "depth": 3, "num_heads": 2, "decoder_embed_dim": 32, "decoder_num_heads": 2}


def test_a_teacher_sees_its_own_bands_in_its_order_scale_and_statistics() -> None:
    torch.manual_seed(0)
    own = ("swir_2", "red", "blue")
    model = build("prithvi_eo_v2_tiny_tl", 2, 32, own, **SMALL).eval()
    contract = dataclasses.replace(
        model.contract, scale=1.0, clip=(0.0, 1.0), mean=tuple(mean / 1e4 for mean in model.contract.mean),
        std=tuple(std / 1e4 for std in model.contract.std),
    )  # fmt: skip
    images = torch.randint(0, 9000, (2, 6, 2, 32, 32), dtype=torch.int16)
    valid = torch.rand(2, 2, 32, 32) > 0.1
    dates, places = torch.tensor([[[2022.0, 10.0], [2022.0, 50.0]]] * 2), torch.tensor([[40.0, 3.0]] * 2)
    chosen = images[:, [5, 2, 0]].float()
    expected = model.encoder(Standardise(model.contract)(chosen, valid), dates, places).tokens
    found = Teacher(model.encoder, contract, DATA)(images, valid, (dates, places))
    assert found.shape == (2, 2, 2, 2, 32)
    torch.testing.assert_close(found, on_grid(expected, (2, 2, 2)), rtol=1e-4, atol=1e-5)
    blocks = model.encoder.forward_features(Standardise(model.contract)(chosen, valid))
    several = Teacher(model.encoder, contract, DATA, layers=[0, -1], coordinates=False)
    both = torch.cat([on_grid(blocks[0], (2, 2, 2)), on_grid(blocks[2], (2, 2, 2))], dim=-1)
    torch.testing.assert_close(several(images, valid, (dates, places)), both, rtol=1e-4, atol=1e-5)
    assert several.width == 64
    with pytest.raises(ConfigError, match=r"layers are \[3\]; the teacher has the blocks 0 to 2"):
        Teacher(model.encoder, contract, DATA, layers=[3])


def test_maps_are_averaged_by_area_whatever_the_two_grids_are() -> None:
    maps = torch.randn(2, 3, 14, 12, 5)
    whole = torch.nn.functional.adaptive_avg_pool2d(maps.movedim(-1, 2).flatten(0, 1), (7, 3))
    torch.testing.assert_close(pooled(maps, (7, 3)), whole.unflatten(0, (2, 3)).movedim(2, -1))
    assert pooled(maps, (14, 12)) is maps
    # A cell of the 8 is 1.75 of the 14: the first has all of the first and three quarters of the second.
    weights = area_weights(14, 8)
    torch.testing.assert_close(weights[0], torch.tensor([4 / 7, 3 / 7] + [0.0] * 12))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(8))
    # Nothing is lost or counted twice: every fine cell has the same share in the whole.
    torch.testing.assert_close(weights.mean(dim=0), torch.full((14,), 1 / 14))


def test_targets_have_mean_0_and_deviation_1_over_the_patches_that_count() -> None:
    torch.manual_seed(0)
    features = torch.randn(4, 50, 6) * torch.tensor([1.0, 100.0, 0.01, 1.0, 3.0, 0.0]) + 7
    weight = torch.rand(4, 50)
    features[0, :10] = 1e6
    weight[0, :10] = 0
    targets = Targets(6)
    assert not targets.measured
    targets.measure([(features[:2], weight[:2]), (features[2:], weight[2:])])
    assert targets.measured
    found, share = targets(features), (weight / weight.sum()).unsqueeze(-1)
    mean = (found * share).sum(dim=(0, 1))
    torch.testing.assert_close(mean, torch.zeros(6), rtol=0, atol=1e-3)
    spread = ((found - mean) ** 2 * share).sum(dim=(0, 1)).sqrt()
    torch.testing.assert_close(spread[:5], torch.ones(5), rtol=1e-3, atol=0)


def test_directions_are_the_same_for_a_seed_and_keep_the_variance() -> None:
    features = torch.randn(2000, 64)
    narrow, again, other = Targets(64, 16, 3), Targets(64, 16, 3), Targets(64, 16, 4)
    assert torch.equal(narrow.basis, again.basis)
    assert not torch.equal(narrow.basis, other.basis)
    torch.testing.assert_close(narrow.basis.T @ narrow.basis, torch.eye(16))
    narrow.measure([(features, torch.ones(2000))])
    assert narrow(features).shape == (2000, 16)
    assert float(narrow(features).var()) == pytest.approx(1, abs=0.05)
    with pytest.raises(ConfigError, match="target_width is 65; the teacher's features have 64 channels"):
        Targets(64, 65)
