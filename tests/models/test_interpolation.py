"""Filling without weights: what it must reproduce exactly, and what it must never touch."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.windows import Window

from prithvi.catalog import data_catalog
from prithvi.models import build
from prithvi.models.interpolation import fill, surface
from prithvi.models.masking import flags, hide, patch_pixels
from tests.conftest import benchmark


def squares(height: int, width: int, share: float, seed: int = 0) -> torch.Tensor:
    """(y, x) known in random 4-pixel squares."""
    drawn = torch.rand(-(-height // 4), -(-width // 4), generator=torch.Generator().manual_seed(seed)) < share
    drawn[0, 0] = True
    return drawn.repeat_interleave(4, 0).repeat_interleave(4, 1)[:height, :width]


@given(
    height=st.integers(1, 70), width=st.integers(1, 70), share=st.floats(0, 1), seed=st.integers(0, 99),
    frames=st.integers(1, 3),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_known_pixels_stay_bit_for_bit_at_any_size(
    height: int, width: int, share: float, seed: int, frames: int
) -> None:
    image = torch.randn(1, 2, frames, height, width, generator=torch.Generator().manual_seed(seed))
    known = torch.stack([squares(height, width, share, seed + date) for date in range(frames)])[None]
    filled = fill(image, known)
    assert torch.equal(torch.where(known.unsqueeze(1), filled, 0.0), torch.where(known.unsqueeze(1), image, 0.0))
    assert torch.isfinite(filled).all()


def test_what_stands_at_unknown_pixels_does_not_matter() -> None:
    known = torch.stack([squares(40, 52, 0.4, date) for date in range(3)])[None]
    image = torch.randn(1, 6, 3, 40, 52)
    other = torch.where(known.unsqueeze(1), image, 1e6)
    torch.testing.assert_close(fill(image, known), fill(other, known))


def test_a_level_image_is_filled_exactly_and_nothing_known_gives_zero() -> None:
    known = squares(33, 47, 0.1)[None, None]
    torch.testing.assert_close(surface(torch.full((1, 1, 33, 47), 3.25), known), torch.full((1, 1, 33, 47), 3.25))
    assert (surface(torch.full((1, 1, 33, 47), 3.25), torch.zeros_like(known)) == 0).all()


def test_a_real_image_is_filled_better_than_by_linear_interpolation() -> None:
    chip = data_catalog() / "sen1floods11" / "samples" / "S2Hand" / "Spain_7370579_S2Hand.tif"
    with rasterio.open(chip) as raster:
        image = raster.read([4, 9, 12], window=Window(100, 100, 128, 128)).astype(np.float32)
    known = squares(128, 128, 0.25)
    filled = surface(torch.from_numpy(image)[None], known[None, None])[0].numpy()
    seen = known.numpy()
    linear = benchmark("reconstruction_errors").interpolated(image[:, None], seen[None])[:, 0]
    assert np.abs(filled - image)[:, ~seen].mean() < 0.97 * np.abs(linear - image)[:, ~seen].mean()


def test_a_date_that_is_a_mixture_of_the_others_is_found() -> None:
    random = torch.Generator().manual_seed(0)
    first = torch.randn(2, 64, 64, generator=random)  # white noise, of which a surface alone knows nothing
    second = torch.stack([0.5 * first[0] - 2 * first[1] + 1, 3 * first[0]])
    known = torch.ones(1, 2, 64, 64, dtype=torch.bool)
    known[0, 1, 16:48, 16:48] = False
    image = torch.stack([first, second], dim=1)[None]
    error = (fill(image, known) - image)[0, :, 1, 16:48, 16:48].abs().mean()
    assert error < 0.05 * second[:, 16:48, 16:48].std()


def test_what_is_not_linear_is_found_by_likeness() -> None:
    first = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
    second = torch.stack([first[0] * first[1], first[1].abs()])
    known = torch.ones(1, 2, 64, 64, dtype=torch.bool)
    known[0, 1, 16:48, 16:48] = False
    image = torch.stack([first, second], dim=1)[None]
    linear, likened = (
        float((fill(image, known, landmarks=number) - image)[0, :, 1, 16:48, 16:48].abs().mean()) for number in (0, 512)
    )
    assert likened < 0.5 * linear
    few = torch.zeros_like(known)
    few[:, 0] = True
    few[0, 1, :3, :5] = True  # fewer known pixels than landmarks
    assert torch.isfinite(fill(image, few, landmarks=512)).all()


def test_a_date_of_which_nothing_is_known_lies_on_the_line_between_its_neighbours() -> None:
    ground = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(1))
    image = torch.stack([ground, torch.zeros_like(ground), ground + 3.0], dim=1)[None]
    known = torch.ones(1, 3, 32, 32, dtype=torch.bool)
    known[0, 1] = False
    coordinates = torch.tensor([[[2020.0, 100.0], [2020.0, 110.0], [2020.0, 130.0]]])
    torch.testing.assert_close(fill(image, known, coordinates)[0, :, 1], ground + 1.0, rtol=0, atol=1e-4)
    # Without days, and with one day unknown, the dates count alike.
    torch.testing.assert_close(fill(image, known)[0, :, 1], ground + 1.5, rtol=0, atol=1e-4)
    coordinates[0, 0] = torch.nan
    torch.testing.assert_close(fill(image, known, coordinates)[0, :, 1], ground + 1.5, rtol=0, atol=1e-4)


def test_a_date_without_pixels_changes_nothing() -> None:
    known = torch.stack([squares(32, 32, 0.5, date) for date in range(3)])[None]
    image = torch.randn(1, 6, 3, 32, 32)
    with_empty = torch.cat([image, torch.randn(1, 6, 1, 32, 32)], dim=2)
    none = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    found = fill(with_empty, torch.cat([known, none], dim=1))[:, :, :3]
    torch.testing.assert_close(found, fill(image, known), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frames", [1, 3])
def test_a_closed_gate_predicts_what_filling_does_and_an_open_one_what_the_decoder_does(frames: int) -> None:
    mae = build("prithvi_hls_tiny", num_frames=frames).eval()
    torch.nn.init.constant_(mae.decoder.decoder_gate.bias, -40.0)
    images = torch.randn(2, 6, frames, 64, 64)
    masking = hide(torch.rand(2, 64 * frames), 0.75)
    visible = flags(masking.visible, 64 * frames)
    known = patch_pixels(visible, (1, 8, 8), (frames, 8, 8))
    known = known & (torch.rand(2, frames, 64, 64) < 0.9)
    with torch.no_grad():
        out = mae(images, visible=visible, known=known)
        loss = mae.hidden_error(images, masking, known=known).loss
        absolute = mae.hidden_error(images, masking, known=known, absolute=True).loss
    filled = fill(images, known)
    torch.testing.assert_close(out.pred, filled)
    hidden = ~patch_pixels(visible, (1, 8, 8), (frames, 8, 8)).unsqueeze(1).expand_as(images)
    torch.testing.assert_close(loss, ((filled - images) ** 2)[hidden].mean())
    torch.testing.assert_close(absolute, (filled - images).abs()[hidden].mean())
    torch.nn.init.constant_(mae.decoder.decoder_gate.bias, 40.0)
    plain = build("prithvi_hls_tiny", num_frames=frames, blend_fill=False).eval()
    plain.load_state_dict({name: value for name, value in mae.state_dict().items() if name in plain.state_dict()})
    with torch.no_grad():
        torch.testing.assert_close(mae(images, visible=visible).pred, plain(images, visible=visible).pred)


def test_a_date_between_two_years_lies_on_the_line_between_its_neighbours() -> None:
    """2022-12-30, 2023-01-01 (nothing known) and 2023-01-03."""
    images = torch.zeros(1, 1, 3, 16, 16)
    images[:, :, 2] = 1.0
    known = torch.tensor([True, False, True])[None, :, None, None].expand(1, 3, 16, 16)
    dates = torch.tensor([[[2022.0, 363.0], [2023.0, 0.0], [2023.0, 2.0]]])
    torch.testing.assert_close(fill(images, known, dates)[:, :, 1], torch.full((1, 1, 16, 16), 0.5), atol=1e-4, rtol=0)
