"""Pictures of reconstructions show what was hidden; charts show the figures that they were given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure

import prithvi
from prithvi import plot
from prithvi.errors import ConfigError, ModelError, SceneError
from prithvi.metrics import CalibrationMetric
from prithvi.models import PrithviMAE, build
from tests.plot.conftest import drawn, texts
from tests.plot.test_scenes import series_of

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def tiny() -> PrithviMAE:
    model = prithvi.load("prithvi_hls_tiny")
    assert isinstance(model, PrithviMAE)
    return model


def test_a_reconstruction_shows_input_what_was_visible_and_what_was_made_of_it(
    scene: xr.DataArray, tiny: PrithviMAE
) -> None:
    series = series_of(scene.isel(y=slice(10, 60)), 1, 0.8)
    axes = plot.reconstruction(series, tiny, mask_ratio=0.5)
    assert axes.shape == (2, 3)
    titles = [ax.get_title() for ax in axes[1]]
    assert titles[0] == "input 2019-10-18"
    assert titles[2] == "reconstructed"
    before, visible, after = (drawn(ax) for ax in axes[0])
    part = series.isel(y=slice(1, 49), x=slice(8, 72))  # whole patches of 4 in the middle, 64 pixels at most
    np.testing.assert_allclose(before, plot.rgb(part.isel(time=0), limits=plot.stretch(part)), atol=1e-5)
    assert axes[0, 0].images[0].get_extent() == [600_080, 600_720, 4_199_410, 4_199_890]
    hidden = (visible == 0.5).all(axis=2)
    blocks = hidden.reshape(12, 4, 16, 4)
    assert (blocks.any(axis=(1, 3)) == blocks.all(axis=(1, 3))).all()  # whole patches
    share = np.mean([(drawn(line[1]) == 0.5).all(axis=2).mean() for line in axes])
    assert share == pytest.approx(0.5, abs=0.01)
    np.testing.assert_array_equal(after[~hidden], before[~hidden])
    assert 0 < np.abs(after - before)[hidden].mean() < 0.1  # trained weights: near, and not the same
    again = plot.reconstruction(series, tiny, mask_ratio=0.5)
    np.testing.assert_array_equal(drawn(again[0, 2]), after)
    other = plot.reconstruction(series, tiny, mask_ratio=0.5, seed=1)
    assert (drawn(other[0, 1]) != visible).any()


def test_a_model_that_gives_no_pixels_and_a_scene_without_a_patch_are_refused(
    scene: xr.DataArray, tiny: PrithviMAE
) -> None:
    relative = build("prithvi_hls_tiny", norm_pix_loss=True, blend_fill=False)
    with pytest.raises(ModelError, match="units of their own mean and deviation"):
        plot.reconstruction(scene, relative)
    with pytest.raises(SceneError, match="3 pixels along y, and a patch has 8"):
        plot.reconstruction(scene.isel(y=slice(20, 23)), tiny)


def test_a_reliability_diagram_has_a_point_for_each_bin_with_pixels() -> None:
    metric = CalibrationMetric(bins=10)
    # 75 of 100 pixels of confidence 0.75 are right, and 1 of 2 of confidence 0.95.
    for confidence, right, count in ((0.75, 75, 100), (0.95, 1, 2)):
        score = float(np.log(confidence / (1 - confidence)))
        scores = torch.tensor([score, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, count)
        metric.update(scores, torch.tensor([0] * right + [1] * (count - right)).view(1, 1, count))
    found = metric.compute()
    ax = plot.reliability(found, Figure().add_subplot())
    np.testing.assert_allclose(ax.collections[0].get_offsets(), [[0.75, 0.75], [0.95, 0.5]], atol=1e-6)
    small, large = sorted(ax.collections[0].get_sizes())
    assert large > 5 * small
    assert ax.get_title() == f"ECE {float(found.error):.3f}"
    with pytest.raises(ConfigError, match="no labelled pixel was counted"):
        plot.reliability(found._replace(pixels=torch.zeros(10)))


TRIALS = [
    ("pretrained", 10, 0.6), ("random", 10, 0.4), ("pretrained", 100, 0.8), ("random", 100, 0.8),
    ("pretrained", 10, 0.7), ("random", 10, 0.5), ("pretrained", 100, float("nan")),
]  # fmt: skip


def test_label_efficiency_has_a_line_a_method_over_labelled_chips(tmp_path: Path) -> None:
    ax = plot.label_efficiency(TRIALS, figure="IoU_water")
    assert texts(ax) == ["pretrained", "random"]
    points = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert points == {"pretrained": [[10, pytest.approx(0.65)], [100, 0.8]], "random": [[10, 0.45], [100, 0.8]]}
    band = ax.collections[0].get_paths()[0].vertices
    assert band[band[:, 0] == 10][:, 1].max() == pytest.approx(0.65 + 0.1 / 2**0.5)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale()) == ("labelled chips", "IoU_water", "log")
    assert len({line.get_color() for line in ax.lines}) == 2
    assert len({line.get_marker() for line in ax.lines}) == 2
    rows = [f"{method},1,0,{chips},9,{score}" for method, chips, score in TRIALS]
    (tmp_path / "results.csv").write_text("\n".join(["method,fraction,seed,chips,seconds,IoU_water", *rows]))
    again = plot.label_efficiency(tmp_path, figure="IoU_water")
    assert {line.get_label(): line.get_xydata().tolist() for line in again.lines} == points
    with pytest.raises(ConfigError, match="has no figure 'IoU_wter': did you mean IoU_water"):
        plot.label_efficiency(tmp_path, figure="IoU_wter")
    with pytest.raises(ConfigError, match="name the folder that 'prithvi compare' wrote"):
        plot.label_efficiency(tmp_path / "nowhere", figure="IoU_water")


def test_one_share_of_the_labels_is_drawn_as_bars() -> None:
    ax = plot.label_efficiency([trial for trial in TRIALS if trial[1] == 10], figure="mIoU")
    assert [patch.get_width() for patch in ax.patches] == pytest.approx([0.65, 0.45])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["pretrained", "random"]
    assert ax.get_xlabel() == "mIoU"
    with pytest.raises(ConfigError, match="no trial with the figure mIoU"):
        plot.label_efficiency([], figure="mIoU")
