"""Predicting only hidden patches is the same as predicting all and looking at the hidden ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prithvi.errors import ModelError
from prithvi.models import PrithviMAE, build
from prithvi.models.flops import training_flops
from prithvi.models.masking import Masking, flags, hide, split


def small(**options: object) -> PrithviMAE:
    torch.manual_seed(0)
    fields = {"patch_size": (1, 4, 4), "embed_dim": 32, "depth": 2, "num_heads": 2, "decoder_embed_dim": 32,
              "decoder_depth": 3, "decoder_num_heads": 2, "coords_encoding": ("time", "location")}  # fmt: skip
    mae = build("prithvi_hls_tiny", num_frames=2, img_size=16, **{"blend_fill": False, **fields, **options})
    torch.nn.init.normal_(mae.decoder.decoder_pred.weight, std=0.05)  # 0 where it predicts what filling leaves
    return mae.double()


def inputs(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    dates = torch.tensor([[2020.0, 10.0], [2021.0, 200.0]]).expand(batch, -1, -1)
    return torch.randn(batch, 6, 2, 16, 16).double(), dates, torch.tensor([[40.0, 3.0]]).expand(batch, -1)


def noise(batch: int = 3, seed: int = 2) -> torch.Tensor:
    return torch.rand(batch, 32, generator=torch.Generator().manual_seed(seed))


def requested(masking: Masking, like: torch.Tensor) -> torch.Tensor:
    """(B, L) bool, the patches that a masking asks for; each at most once."""
    hidden = masking.hidden
    there = torch.ones_like(hidden.index) if hidden.present is None else hidden.present.long()
    count = torch.zeros(like.shape, dtype=torch.long).scatter_add(1, hidden.index, there)
    assert int(count.max()) <= 1
    return count > 0


@pytest.mark.parametrize("option", [{}, {"norm_pix_loss": True}, {"blend_fill": True}], ids=str)
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("kind", ["random", "tube", "outside"])
def test_the_loss_and_its_gradient_are_those_of_the_whole_forward(
    kind: str, depth: int, option: dict[str, Any]
) -> None:
    mae = small(**option, decoder_depth=depth)
    images, dates, place = inputs()
    if kind == "outside":
        masking = split(noise() < torch.tensor([[0.2], [0.5], [0.9]]), noise(seed=3))
    else:
        masking = hide(noise() if kind == "random" else noise()[:, :16].repeat(1, 2), 0.75)
    visible = flags(masking.visible, 32)
    full = mae(images, dates, place, visible=visible)
    full.loss.backward()
    expected = [p.grad.clone() for p in mae.parameters()]
    mae.zero_grad()
    error = mae.hidden_error(images, masking, None, dates, place)
    error.loss.backward()
    torch.testing.assert_close(error.loss, full.loss)
    assert int(error.pixels) == int((~visible).sum()) * 16
    for parameter, gradient in zip(mae.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_only_pixels_that_count_enter_the_loss() -> None:
    mae, (images, dates, place) = small(), inputs()
    masking = hide(noise(), 0.75)
    counts = torch.rand(3, 2, 16, 16) < 0.7
    hidden = ~flags(masking.visible, 32).view(3, 2, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    pred = mae(images, dates, place, visible=flags(masking.visible, 32)).pred
    squared = ((pred - images) ** 2).mean(dim=1)
    error = mae.hidden_error(images, masking, counts, dates, place)
    torch.testing.assert_close(error.loss, squared[hidden & counts].mean())
    assert int(error.pixels) == int((hidden & counts).sum())


def test_absent_patches_are_neither_seen_nor_asked_for() -> None:
    mae, (images, dates, place) = small(), inputs()
    present = torch.ones(3, 32, dtype=torch.bool)
    present[0, 16:] = False  # the first sample lacks its second date
    present[1, :5] = False
    masking = hide(noise(), 0.75, present)
    shown = flags(masking.visible, 32)
    asked = requested(masking, shown)
    assert not (shown & ~present).any()
    assert not (asked & ~present).any()
    assert not (shown & asked).any()
    assert (shown | asked).eq(present).all()
    assert shown.sum(dim=1).tolist() == [4, 6, 8]  # a quarter of what is there
    before = mae.hidden_error(images, masking, None, dates, place)
    images[0, :, 1] = 7.0
    images[1, :, 0, :4, :] = -7.0
    after = mae.hidden_error(images, masking, None, dates, place)
    assert torch.equal(before.loss, after.loss)
    # And a sample that lacks a date is as one of one date, but for its position codes of the first.
    alone = mae.hidden_error(images[:1, :, :1], hide(noise()[:1, :16], 0.75), None, dates[:1, :1], place[:1])
    first = Masking(*(type(k)(k.index[:1], k.present[:1]) for k in (masking.visible, masking.hidden)))
    torch.testing.assert_close(mae.hidden_error(images[:1], first, None, dates[:1], place[:1]).loss, alone.loss)


@given(
    ratio=st.floats(0.0, 1.0),
    batch=st.integers(1, 4),
    patches=st.integers(1, 60),
    seed=st.integers(0, 99),
    gaps=st.booleans(),
)
@settings(max_examples=60)
def test_every_patch_is_seen_or_asked_for_once(ratio: float, batch: int, patches: int, seed: int, gaps: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(batch, patches, generator=generator)
    present = (
        torch.rand(batch, patches, generator=generator) < 0.7 if gaps else torch.ones(batch, patches, dtype=torch.bool)
    )
    for masking in (hide(drawn, ratio, present), split(drawn < ratio, drawn, present)):
        shown = flags(masking.visible, patches)
        asked = requested(masking, shown)
        assert int(masking.visible.present.sum() + masking.hidden.present.sum()) == int(present.sum())
        assert (shown ^ asked).eq(present).all()
    if not gaps:
        assert int(hide(drawn, ratio).visible.index.shape[1]) == int(patches * (1 - ratio))


def test_a_tube_hides_the_same_places_in_all_dates() -> None:
    shown = flags(hide(noise()[:, :8].repeat(1, 4), 0.75).visible, 32).view(3, 4, 8)
    assert (shown == shown[:, :1]).all()
    assert shown.sum(dim=2).eq(2).all()


def test_a_fraction_asks_for_a_random_part_of_each_samples_hidden_patches() -> None:
    masking = split(noise() < torch.tensor([[0.2], [0.5], [0.9]]), noise(seed=5))
    whole = masking.hidden.present.sum(dim=1)
    half = masking.fewer(0.5)
    assert half.hidden.present.sum(dim=1).tolist() == [-(-int(n) // 2) for n in whole]
    assert half.hidden.index.shape[1] == -(-int(whole.max()) // 2)
    assert masking.fewer(1.0) is masking
    # Over many draws each hidden patch is asked for as often as another.
    counts = torch.zeros(32)
    for seed in range(200):
        index = hide(noise(1, seed), 0.75).fewer(0.5).hidden.index
        counts[index[0]] += 1
    assert counts.min() > 0.6 * counts.mean()


def test_a_fraction_of_the_hidden_patches_estimates_their_loss() -> None:
    mae, (images, dates, place) = small(), inputs()
    with torch.no_grad():
        whole = [float(mae.hidden_error(images, hide(noise(seed=s), 0.75), None, dates, place).loss) for s in range(40)]
        part = [
            float(mae.hidden_error(images, hide(noise(seed=s), 0.75).fewer(0.25), None, dates, place).loss)
            for s in range(40)
        ]
    assert abs(sum(part) / sum(whole) - 1) < 0.05


def test_a_share_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ModelError, match=r"mask ratio is 1.5"):
        hide(noise(), 1.5)


def test_operations_are_counted_as_torch_counts_them() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    mae = small().float()
    images, dates, place = inputs()
    with FlopCounterMode(display=False) as counter:
        mae.hidden_error(images.float(), hide(noise(), 0.75), None, dates, place).loss.backward()
    ours = 3 * training_flops(mae.config, 2, 16)
    # torch leaves out what needs no gradient: the images; and 2.6 a part of attention's way back.
    assert abs(counter.get_total_flops() / ours - 1) < (0.06 if torch.__version__ >= (2, 7) else 0.13)
