from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prithvi.errors import ConfigError
from prithvi.windows import blend_weights, plan, starts

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
