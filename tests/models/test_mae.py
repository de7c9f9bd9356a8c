"""The autoencoder by itself: masks of any count, requests at the edges, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prithvi.errors import BandError, ModelError
from prithvi.models import build
from prithvi.models.codes import CoordinateCode, position_code
from prithvi.models.layers import to_images, to_patches


def small(**options: object) -> torch.nn.Module:
    torch.manual_seed(1)
    settings = {"num_frames": 2, "img_size": (64, 96), "depth": 3, "decoder_depth": 2}
    return build("prithvi_eo_v2_tiny_tl", **{**settings, **options}).eval()  # type: ignore[arg-type]


def batch(model: torch.nn.Module, size: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(size, 6, 2, 64, 96, generator=generator)
    dates = torch.stack(
        [torch.full((size, 2), 2020.0), torch.randint(0, 365, (size, 2), generator=generator).float()], -1
    )
    return images, dates, torch.randn(size, 2, generator=generator) * 40


def test_any_count_of_visible_patches_equals_running_each_sample_alone() -> None:
    model = small()
    images, dates, places = batch(model)
    patches = 2 * 4 * 6
    visible = torch.zeros(4, patches, dtype=torch.bool)
    for sample, count in enumerate((1, 17, patches, 0)):
        visible[sample, torch.randperm(patches, generator=torch.Generator().manual_seed(sample))[:count]] = True

    together = model(images, dates, places, visible=visible)
    together.loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    hidden = (~visible).sum(dim=1).float()
    total = torch.zeros(())
    for sample in range(4):
        one = slice(sample, sample + 1)
        alone = model(images[one], dates[one], places[one], visible=visible[one])
        assert (alone.pred - together.pred[one]).abs().max() <= 1e-5
        total = total + alone.loss * hidden[sample]
        tokens = model.encoder(images[one], dates[one], places[one], visible[one]).tokens
        packed = model.encoder(images, dates, places, visible).tokens[one, : tokens.shape[1]]
        assert (tokens - packed).abs().max() <= 1e-5
    loss = total / hidden.sum()
    assert abs(float((loss - together.loss).detach())) <= 1e-5
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert (parameter.grad - gradients[name]).abs().max() <= 1e-5, name


def test_a_hidden_patch_cannot_be_seen() -> None:
    model = small()
    images, dates, places = batch(model)
    output = model(images, dates, places, generator=torch.Generator().manual_seed(0))
    hidden = to_images(
        output.mask.float().unsqueeze(-1).expand(-1, -1, 256), (1, 16, 16), (2, 4, 6)
    ).bool()  # fmt: skip
    changed = torch.where(hidden, torch.full_like(images, 99.0), images)
    again = model(changed, dates, places, visible=~output.mask)
    assert torch.equal(again.pred, output.pred)


def test_nothing_hidden_is_a_valid_request() -> None:
    model = small()
    images, dates, places = batch(model)
    output = model(images, dates, places, mask_ratio=0)
    assert float(output.loss.detach()) == 0
    assert not output.mask.any()
    assert output.pred.shape == images.shape
    assert torch.isfinite(output.pred).all()
    everything = model(images, dates, places, visible=torch.ones(4, 48, dtype=torch.bool))
    assert torch.allclose(everything.pred, output.pred, atol=1e-6)


def test_a_generator_decides_what_is_hidden() -> None:
    model = small()
    images, *_ = batch(model)
    masks = [model(images, generator=torch.Generator().manual_seed(seed)).mask for seed in (0, 0, 1)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert masks[0].dtype == torch.bool
    assert (masks[0].sum(dim=1) == 36).all()


def test_features_are_one_a_block_and_the_last_is_normalised() -> None:
    model = small()
    images, dates, places = batch(model)
    features = model.encoder.forward_features(images, dates, places)
    assert [f.shape for f in features] == [(4, 49, 192)] * 3
    assert torch.allclose(features[-1], model.encoder(images, dates, places).tokens, atol=1e-6)


def test_unknown_coordinates_of_one_sample_count_as_none() -> None:
    model = small()
    images, dates, places = batch(model)
    dates[1], places[2] = float("nan"), float("nan")
    mixed = model.encoder.forward_features(images, dates, places)[-1]
    without_date = model.encoder.forward_features(images[1:2], None, places[1:2])[-1]
    without_place = model.encoder.forward_features(images[2:3], dates[2:3], None)[-1]
    assert (mixed[1:2] - without_date).abs().max() <= 1e-5
    assert (mixed[2:3] - without_place).abs().max() <= 1e-5


def test_coordinates_stay_exact_in_low_precision() -> None:
    code = CoordinateCode(64, learn_scale=False)
    years = torch.tensor([[2018.0, 10], [2019, 10], [2023, 10]])
    exact = code(years)
    low = code.to(torch.bfloat16)(years)
    assert (low - exact).abs().max() < 0.01
    assert (exact[0] - exact[1]).abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_models_of_any_precision_take_coordinates(dtype: torch.dtype) -> None:
    model = small().to(dtype)
    images, dates, places = batch(model)
    output = model(images.to(dtype), dates, places)
    assert output.pred.dtype == dtype
    assert torch.isfinite(output.pred).all()


def test_position_codes_follow_their_formula() -> None:
    """Against the formula of arXiv 1706.03762 by axis, one entry at a time."""
    code = position_code(32, (2, 3, 4))[0].numpy()
    assert code.shape == (25, 32)
    assert (code[0] == 0).all()
    t, y, x = 1, 2, 3
    row = code[1 + t * 12 + y * 4 + x]
    expected = []
    for size, position in ((12, x), (12, y), (8, t)):
        w = 10000.0 ** (-np.arange(size // 2) / (size / 2))
        expected += [*np.sin(position * w), *np.cos(position * w)]
    np.testing.assert_allclose(row, expected, atol=1e-6)


def test_patches_and_images_are_opposites() -> None:
    images = torch.arange(2 * 3 * 4 * 6 * 8.0).view(2, 3, 4, 6, 8)
    patches = to_patches(images, (2, 3, 4), band_last=True)
    assert patches.shape == (2, 2 * 2 * 2, 72)
    assert torch.equal(to_images(patches, (2, 3, 4), (2, 2, 2)), images)
    first = images[0, :, :2, :3, :4]
    assert torch.equal(patches[0, 0], first.permute(1, 2, 3, 0).flatten())


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 6, 2, 60, 96), "2 x 60 x 96 .* does not divide into patches of 1 x 16 x 16"),
        ((1, 6, 2, 8, 96), "smaller than one patch"),
        ((1, 5, 2, 64, 96), "5 bands .* wants 6: blue, green"),
        ((6, 2, 64, 96), r"must be \(batch, band, time, y, x\)"),
    ],
)
def test_images_that_do_not_fit_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        small()(torch.zeros(shape))


def test_masks_and_coordinates_of_another_shape_are_refused() -> None:
    model = small()
    images, dates, places = batch(model, 1)
    with pytest.raises(ModelError, match=r"visible is \(1, 47\)"):
        model(images, visible=torch.ones(1, 47, dtype=torch.bool))
    with pytest.raises(ModelError, match=r"of torch\.float32"):
        model(images, visible=torch.ones(1, 48))
    with pytest.raises(ModelError, match=r"temporal_coords has shape \(1, 1, 2\)"):
        model(images, dates[:, :1])
    with pytest.raises(ModelError, match="location_coords has shape"):
        model(images, dates, places[0])
    with pytest.raises(ModelError, match="coordinates of 1 sample for a batch of 4"):
        model(batch(model)[0], dates, places)
    with pytest.raises(ModelError, match=r"mask ratio is 1\.5"):
        model(images, mask_ratio=1.5)


def test_names_settings_and_bands_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ModelError, match=r"no model 'prithvi_eo_v2_30': did you mean .*prithvi_eo_v2_300"):
        build("prithvi_eo_v2_30")
    with pytest.raises(ModelError, match="no setting 'dept': did you mean depth"):
        build("prithvi_eo_tiny", dept=3)
    with pytest.raises(BandError, match="no band 'BLEU': did you mean blue"):
        build("prithvi_eo_tiny", bands=["BLEU"])
    with pytest.raises(BandError, match="no mean and std of red_edge_1"):
        build("prithvi_eo_tiny", bands=["blue", "red_edge_1"])
    with pytest.raises(ModelError, match="does not divide"):
        build("prithvi_eo_tiny", img_size=100)


def test_own_bands_bring_their_statistics() -> None:
    model = build("prithvi_eo_tiny", bands=["red", "blue"])
    assert model.contract.bands == ("red", "blue")
    assert model.contract.mean == (1433, 1087)
    assert model.config.in_chans == 2


def test_the_compiler_takes_position_codes_as_constants() -> None:
    def function() -> None:
        """Marked the public way, which sets what `position_code` sets by itself."""

    torch.compiler.assume_constant_result(function)
    marks = vars(function)
    assert marks
    assert {name: vars(position_code).get(name) for name in marks} == marks


@pytest.mark.slow
def test_compiles_without_a_graph_break() -> None:
    import torch._dynamo as dynamo

    model = small(depth=1, decoder_depth=1)
    images, dates, places = batch(model, 2)
    visible = torch.rand(2, 48, generator=torch.Generator().manual_seed(0)) > 0.5

    def losses(images: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        return model(images, dates, places, visible=visible).loss

    compiled = torch.compile(losses, backend="eager", fullgraph=True)
    assert abs(float((compiled(images, visible) - losses(images, visible)).detach())) <= 1e-5
    other_dates = torch.cat([images, images[:, :, :1]], dim=2)  # position codes of other dates are computed anew
    more = torch.cat([visible, visible[:, :24]], dim=1)
    codes = torch.compile(lambda i, v: model(i, visible=v).loss, backend="eager", fullgraph=True)
    assert abs(float((codes(other_dates, more) - model(other_dates, visible=more).loss).detach())) <= 1e-5
    dynamo.reset()
