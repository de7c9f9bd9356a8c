"""Blended windows: no seam, no shift, no dependence on batches, and the same as doing it all in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.warp import transform as project

from prithvi.errors import ModelError
from prithvi.mapping.inference import PlaceAndDates
from prithvi.mapping.sliding_window import BlendedRows, blend
from prithvi.windows import WindowPlan, blend_weights, plan

Middles = list[tuple[float, float]]


def rows_in(pixels: np.ndarray):  # type: ignore[no-untyped-def]
    """(y, x) pixels as one band of one date."""

    def rows(first: int, last: int) -> np.ndarray:
        return pixels[None, None, first:last].astype(np.float32)

    return rows


def scores_of(images: torch.Tensor, classes: int) -> torch.Tensor:
    """The pixels, those mirrored in the window, and multiples of both: context matters."""
    value = images.nan_to_num(0)[:, 0, 0]
    kinds = [value, value.flip(-1), value.flip(-2)]
    return torch.stack([kinds[number % 3] / (1 + number // 3) for number in range(classes)], dim=1)


def joined(found: list[BlendedRows], classes: int) -> tuple[np.ndarray, np.ndarray]:
    scores = [r.scores.numpy() if len(r.scores) else np.zeros((classes, *r.valid.shape), np.float32) for r in found]
    return np.concatenate(scores, axis=1), np.concatenate([r.valid for r in found])


def run(
    pixels: np.ndarray, layout: WindowPlan, batch_size: int = 3, classes: int = 3, **options: object
) -> tuple[np.ndarray, np.ndarray]:
    def predict(images: torch.Tensor, middles: Middles) -> torch.Tensor:
        assert images.shape[1:] == (1, 1, layout.window, layout.window)
        return scores_of(images, classes)

    found = list(blend(rows_in(pixels), pixels.shape, predict, layout, batch_size=batch_size, **options))  # type: ignore[arg-type]
    assert [r.start for r in found] == list(np.cumsum([0] + [r.valid.shape[0] for r in found[:-1]]))
    return joined(found, classes)


def in_memory(pixels: np.ndarray, layout: WindowPlan, classes: int = 3) -> np.ndarray:
    """The same, written as plainly as possible in float64."""
    height, width, size = *pixels.shape, layout.window
    padded = np.pad(pixels, ((0, max(0, size - height)), (0, max(0, size - width))), mode="reflect")
    total, weight = np.zeros((classes, *padded.shape)), np.zeros(padded.shape)
    weights = blend_weights(size).astype(np.float64)
    for row in layout.rows:
        for column in layout.columns:
            here = np.s_[row : row + size, column : column + size]
            if np.isnan(padded[here]).all():
                continue
            value = np.nan_to_num(padded[here])
            kinds = [value, value[:, ::-1], value[::-1]]
            scores = np.stack([kinds[number % 3] / (1 + number // 3) for number in range(classes)])
            total[(slice(None), *here)] += scores * weights
            weight[here] += weights
    return (total / np.where(weight > 0, weight, 1))[:, :height, :width]


MANY: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


@settings(max_examples=30, **MANY)
@given(st.integers(1, 45), st.integers(1, 45), st.integers(2, 16), st.data())
def test_rolling_bands_equal_whole_arrays(height: int, width: int, window: int, data: st.DataObject) -> None:
    assert_rolling_equals_whole(height, width, window, data)


@pytest.mark.slow
@settings(max_examples=150, **MANY)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(2, 32), st.data())
def test_rolling_bands_equal_whole_arrays_in_many_cases(
    height: int, width: int, window: int, data: st.DataObject
) -> None:
    assert_rolling_equals_whole(height, width, window, data)


def assert_rolling_equals_whole(height: int, width: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window))
    classes = data.draw(st.sampled_from([1, 2, 3, 13]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    pixels = rng.random((height, width), dtype=np.float32).astype(np.float64)
    holes = data.draw(st.sampled_from(["none", "corner", "speckle", "stripes"]))
    if holes == "corner":
        pixels[data.draw(st.integers(0, height)) :, data.draw(st.integers(0, width)) :] = np.nan
    elif holes == "speckle":
        pixels[rng.random((height, width)) < 0.4] = np.nan
    elif holes == "stripes":
        pixels[:: data.draw(st.integers(1, 5))] = np.nan
    layout = plan(height, width, window, stride)
    scores, valid = run(pixels, layout, data.draw(st.integers(1, 5)), classes)
    np.testing.assert_array_equal(valid, np.isfinite(pixels))
    np.testing.assert_allclose(scores, in_memory(pixels, layout, classes), rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(5, 90), st.integers(5, 90), st.integers(2, 32), st.data())
def test_any_part_is_the_whole_s_bit_for_bit(height: int, width: int, window: int, data: st.DataObject) -> None:
    """What a resumed run, an area of interest and a lazy block rest on."""
    layout = plan(height, width, window, data.draw(st.integers(1, window)))
    pixels = np.random.default_rng(0).random((height, width))
    pixels[rng_rows(data, height), :] = np.nan
    whole, valid = run(pixels, layout, 3)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    down, along = (
        slice(top, data.draw(st.integers(top + 1, height))),
        slice(left, data.draw(st.integers(left + 1, width))),
    )
    scores, seen = run(pixels, layout, 3, part=(down, along))
    np.testing.assert_array_equal(scores, whole[:, down, along])
    np.testing.assert_array_equal(seen, valid[down, along])
    inner, rows, columns = layout.over(down, slice(0, width))
    moved = slice(down.start - rows.start, down.stop - rows.start)
    np.testing.assert_array_equal(run(pixels[rows, columns], inner, 3, part=(moved, along))[0], whole[:, down, along])
    some, rows, columns = layout.over(down, along)  # other windows are predicted together
    moved = (
        slice(down.start - rows.start, down.stop - rows.start),
        slice(along.start - columns.start, along.stop - columns.start),
    )
    np.testing.assert_allclose(run(pixels[rows, columns], some, 3, part=moved)[0], whole[:, down, along], atol=1e-6)


def rng_rows(data: st.DataObject, height: int) -> slice:
    first = data.draw(st.integers(0, height))
    return slice(first, first + data.draw(st.integers(0, 20)))


@pytest.mark.parametrize("stride", [7, 16, 32])
def test_a_constant_model_gives_a_constant_map(stride: int) -> None:
    scores, _ = run(np.full((100, 130), 0.7), plan(100, 130, 32, stride))
    np.testing.assert_allclose(scores, 0.7, rtol=0, atol=1e-6)


def test_no_window_is_shifted() -> None:
    """Each pixel holds its own coordinate; an average over windows that are in place gives it back."""
    y, x = np.mgrid[:90, :75]
    pixels = y * 75.0 + x
    scores, _ = run(pixels / 7000, plan(90, 75, 32, 20))
    np.testing.assert_allclose(scores[0] * 7000, pixels, atol=0.01)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32630", Affine(10, 0, 600_000, 0, -10, 4_200_000)),
        ("EPSG:4326", Affine(1e-4, 0, -3.5, 0, -1e-4, 41.0)),
        ("EPSG:32630", Affine.translation(600_000, 4_200_000) @ Affine.rotation(30) @ Affine.scale(10, -10)),
        ("EPSG:32630", Affine(10, 0, 600_000, 0, 10, 4_200_000)),
    ],
)
def test_windows_know_where_they_lie(crs: str, transform: Affine) -> None:
    """A model that answers with each pixel's own place, made from its window's middle alone: no window is shifted, and
    none is told another's place on the ground."""
    height, width, size = 70, 90, 16
    place = PlaceAndDates(GeoBox((height, width), transform, crs), None)
    offsets = np.arange(size) + 0.5 - size / 2

    def predict(images: torch.Tensor, middles: Middles) -> torch.Tensor:
        told = place.places(middles).numpy().astype(np.float64)
        answers = []
        for number, (row, column) in enumerate(middles):
            x, y = transform @ (column, row)
            longitude, latitude = project(crs, "EPSG:4326", [x], [y])
            np.testing.assert_allclose(told[number], [latitude[0], longitude[0]], rtol=1e-6)
            rows, columns = np.meshgrid(row + offsets, column + offsets, indexing="ij")
            answers.append(np.stack([transform.c * 0 + columns, rows]))
        return torch.from_numpy(np.stack(answers).astype(np.float32))

    pixels = np.ones((height, width))
    found = list(blend(rows_in(pixels), pixels.shape, predict, plan(height, width, size, 9), batch_size=4))
    scores, _ = joined(found, 2)
    rows, columns = np.mgrid[:height, :width] + 0.5
    np.testing.assert_allclose(scores, np.stack([columns, rows]), atol=1e-4)
    part = place.below(20)
    np.testing.assert_allclose(part.places([(1.0, 2.0)]), place.places([(21.0, 2.0)]), rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_batches_do_not_matter(batch_size: int) -> None:
    pixels = np.random.default_rng(0).random((64, 200))
    layout = plan(64, 200, 32, 16)
    np.testing.assert_array_equal(run(pixels, layout, batch_size)[0], run(pixels, layout, 3)[0])


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_windows_are_begun_ahead_across_rows_and_their_pixels_stay(ahead: int) -> None:
    """Answers are computed when they are taken: what changed the pixels before would change them."""
    pixels, layout = np.random.default_rng(0).random((70, 90)), plan(70, 90, 32, 16)
    pixels[:, 40:] = np.where(np.arange(70)[:, None] < 50, pixels[:, 40:], np.nan)
    waiting, most, rows_waiting = list[float](), 0, set[int]()

    def predict(images: torch.Tensor, middles: Middles) -> Iterator[torch.Tensor]:
        nonlocal most
        waiting.append(middles[0][0])
        most = max(most, len(waiting))
        rows_waiting.add(len(set(waiting)))

        def answers() -> Iterator[torch.Tensor]:
            waiting.pop(0)
            yield from scores_of(images, 3)

        return answers()

    found = list(blend(rows_in(pixels), pixels.shape, predict, layout, batch_size=2, ahead=ahead))
    np.testing.assert_array_equal(joined(found, 3)[0], run(pixels, layout, 2)[0])
    np.testing.assert_array_equal(joined(found, 3)[1], run(pixels, layout, 2)[1])
    assert (most, waiting) == (ahead + 1, [])
    assert max(rows_waiting) > 1


def test_windows_without_data_or_outside_what_is_wanted_are_not_predicted() -> None:
    calls: list[tuple[float, float]] = []

    def predict(images: torch.Tensor, middles: Middles) -> torch.Tensor:
        calls.extend(middles)
        return torch.zeros(len(images), 2, 16, 16)

    pixels = np.full((64, 64), np.nan)
    pixels[:16, :32] = 1
    found = list(blend(rows_in(pixels), pixels.shape, predict, plan(64, 64, 16, 16)))
    assert calls == [(8.0, 8.0), (8.0, 24.0)]
    assert sum(int(r.valid.sum()) for r in found) == 512
    wanted = np.zeros((64, 64), bool)
    wanted[10, 20] = True
    calls.clear()
    found = list(
        blend(
            rows_in(pixels), pixels.shape, predict, plan(64, 64, 16, 16), wanted=lambda first, last: wanted[first:last]
        )
    )
    assert calls == [(8.0, 24.0)]
    assert sum(int(r.valid.sum()) for r in found) == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 60), st.integers(8, 60), st.sampled_from([2, 4, 8]), st.integers(1, 4), st.integers(1, 4))
def test_scores_of_blocks_stand_over_their_blocks(height: int, width: int, cell: int, of: int, by: int) -> None:
    """A model that gives the mean of each block of pixels: the map has the blocks' means, with what hangs over the far
    edges mirrored."""
    window, stride = cell * of * 2, cell * min(by, of * 2)
    tall, wide = -(-height // cell) * cell, -(-width // cell) * cell
    pixels = np.random.default_rng(1).random((height, width))
    layout = plan(tall, wide, window, stride)

    def predict(images: torch.Tensor, middles: Middles) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images[:, 0], cell)

    found = list(blend(rows_in(pixels), pixels.shape, predict, layout, cell=cell))
    padded = np.pad(pixels, ((0, tall - height), (0, wide - width)), mode="reflect")
    expected = padded.reshape(tall // cell, cell, wide // cell, cell).mean(axis=(1, 3))
    scores, valid = joined(found, 1)
    np.testing.assert_allclose(scores[0], expected, rtol=0, atol=2e-6)
    assert valid.all()


def test_scores_of_another_size_are_refused() -> None:
    with pytest.raises(ModelError, match="gave 8 x 8 scores for a window; expected 16 x 16"):
        list(
            blend(
                rows_in(np.ones((32, 32))),
                (32, 32),
                lambda images, _: torch.zeros(len(images), 2, 8, 8),
                plan(32, 32, 16, 8),
            )
        )


def test_a_damaged_row_stops_the_run_where_it_is() -> None:
    def rows(first: int, last: int) -> np.ndarray:
        if last > 40:
            raise OSError("cut short")
        return np.ones((1, 1, last - first, 32), np.float32)

    found = blend(rows, (64, 32), lambda images, _: torch.zeros(len(images), 2, 16, 16), plan(64, 32, 16, 16))
    assert next(found).start == 0
    with pytest.raises(OSError, match="cut short"):
        list(found)
