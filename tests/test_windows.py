from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prithvi.errors import ConfigError
from prithvi.windows import blend_weights, plan, starts, stride_of

SIZE = st.integers(1, 700)


@given(SIZE, st.integers(1, 300), st.data())
def test_windows_cover_every_pixel_and_never_leave_a_scene_they_fit_into(
    size: int, window: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, window))
    first = starts(size, window, stride)
    covered = np.zeros(size, dtype=bool)
    for start in first:
        covered[start : start + window] = True
    assert covered.all()
    assert list(first) == sorted(set(first))
    if size >= window:
        assert first[-1] + window == size
    assert all(b - a <= stride for a, b in pairwise(first))


def test_a_stride_that_leaves_pixels_out_is_refused() -> None:
    with pytest.raises(ConfigError, match="stride 300 must lie between 1 and the window 224"):
        plan(512, 512, 224, 300)


def test_weights_are_positive_and_add_up_where_windows_overlap_by_half() -> None:
    weights = blend_weights(224)
    assert weights.dtype == np.float32
    assert weights.min() > 0
    assert weights.max() == pytest.approx(1, abs=1e-3)
    profile = weights[112] / weights[112].max()
    np.testing.assert_allclose(profile[:112] + profile[112:], 1, atol=2e-3)


def test_an_overlap_is_a_stride() -> None:
    assert [stride_of(224, None, share) for share in (None, 0, 0.25, 0.5, 0.999)] == [168, 224, 168, 112, 1]
    assert stride_of(64, 20, None) == 20
    assert stride_of(64, None, None, compared=True) == 32
    for share in (-0.1, 1, float("nan")):
        with pytest.raises(ConfigError, match=r"overlap .* must be at least 0 and below 1"):
            stride_of(64, None, share)
    with pytest.raises(ConfigError, match=r"stride 32 and the overlap 0.5 say the same thing: leave one of them out"):
        stride_of(64, 32, 0.5)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_weights_leave_no_step_where_a_window_begins(share: float) -> None:
    """Two windows that say 0 and 1: what is between them rises evenly over all of the overlap."""
    profile = blend_weights(64)[32].astype(float)
    stride = stride_of(64, None, share)
    first, second = np.zeros(64 + stride), np.zeros(64 + stride)
    first[:64], second[stride:] = profile, profile
    blended = second / (first + second)
    steps = np.diff(blended)
    assert steps.min() >= 0
    assert steps.max() < 2.2 / (64 - stride)
    assert max(blended[stride], 1 - blended[63]) < 0.01  # where one begins and the other ends
