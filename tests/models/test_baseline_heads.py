"""Baselines as heads: trees give what scikit-learn gives, an index is the best there is, missing data stays missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prithvi.bands import PRITHVI_BANDS
from prithvi.errors import DatasetError, InapplicableError, ModelError
from prithvi.evaluation import IndexThreshold, normalised_difference
from prithvi.modelio import export, load, save
from prithvi.models import HEADS, Segmenter
from prithvi.models.boosted_trees import BoostedTrees
from prithvi.models.pixel_features import over_time, pairs_of
from prithvi.models.zoo import configure
from prithvi.tasks import fit_head
from tests.conftest import small_task

INPUT = {"bands": list(PRITHVI_BANDS), "mean": [500.0] * 6, "std": [250.0] * 6, "nodata": 0.0}


def head(name: str, frames: int = 1, classes: int = 2, **options: Any) -> Any:
    return HEADS[name](6, frames, 1, classes, input=INPUT, **options).eval()


def fitted(name: str, images: torch.Tensor, label: torch.Tensor, classes: Sequence[str], **options: Any) -> Any:
    """A head fitted to all pixels of (B, T*band, Y, X) standardised images."""
    frames = images.shape[1] // 6
    made = head(name, frames, len(classes), **options)
    rows = made.describe(images, images.shape[-2:]).movedim(1, -1).flatten(0, 2)
    made.found = made.fit_to(rows, label.flatten(), classes, torch.ones(len(classes)), 0)
    return made


@pytest.mark.parametrize("classes", [[0, 1], [0, 1, 2, 4], [1, 3]])
def test_trees_in_torch_give_what_scikit_learn_gives(classes: list[int]) -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3000, 5)).astype(np.float32).round(1)  # many equal values, and thresholds between them
    values[rng.random(values.shape) < 0.1] = np.nan
    total = np.nan_to_num(values)[:, :3].sum(axis=1) + np.isnan(values[:, 3]) + rng.normal(size=3000) / 2
    label = np.array(classes)[np.digitize(total, np.quantile(total, np.linspace(0, 1, len(classes) + 1)[1:-1]))]
    model = ensemble.HistGradientBoostingClassifier(max_iter=70, random_state=0).fit(values, label)
    trees = BoostedTrees.of(model, 5)
    seen = rng.normal(size=(2000, 5)).astype(np.float32).round(1) * 2  # values that training never saw, too
    seen[rng.random(seen.shape) < 0.2] = np.nan
    seen[0], seen[1], seen[2] = np.inf, -np.inf, np.nan
    edges = np.unique(trees.threshold.numpy())
    seen[3 : 3 + len(edges[:1000]), 0] = edges[:1000]  # a value at a threshold goes to the left
    probability = trees(torch.from_numpy(seen)).softmax(dim=1)
    expected = np.zeros((2000, 5))
    expected[:, classes] = model.predict_proba(seen)
    np.testing.assert_allclose(probability.numpy(), expected, atol=1e-5)
    again = BoostedTrees(5, **trees.size)
    again.load_state_dict(trees.state_dict())
    assert torch.equal(again(torch.from_numpy(seen)), trees(torch.from_numpy(seen)))


def test_nodes_that_are_no_trees_are_refused() -> None:
    chain = {"feature": [0, -1, -1], "left": [1, 0, 0], "right": [2, 0, 0], "first": [0]}
    for name, values in (("left", [0, 0, 0]), ("right", [9, 0, 0]), ("right", [-3, 0, 0]), ("first", [7])):
        trees = BoostedTrees(2, trees=1, nodes=3)
        state = trees.state_dict() | {key: torch.tensor(of) for key, of in chain.items()}
        trees.load_state_dict(state)
        with pytest.raises(ModelError, match="are no trees"):
            trees.load_state_dict(state | {name: torch.tensor(values)})
    with pytest.raises(ModelError, match="are no such model"):
        BoostedTrees(2, trees=10**9)


def test_the_index_is_the_best_of_five_in_both_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 6, 40, 40, generator=generator)
    raw = images * 250 + 500
    mndwi = normalised_difference(raw[:, 1].numpy(), raw[:, 4].numpy()).clip(-1, 1)
    noise = torch.randn(1, 40, 40, generator=generator).numpy() / 10
    water = torch.from_numpy(mndwi + noise > 0.1).long()
    made = fitted("index", images, water, ["land", "water"])
    assert made.found["fitted"].startswith("water is where mndwi (green, swir_1) is above 0.")
    assert made.options["pair"] == ["green", "swir_1"]
    # Land is found as the same rule, said of the other class.
    land = fitted("index", images, 1 - water, ["water", "land"])
    assert "land is where mndwi (green, swir_1) is below" in land.found["fitted"]
    assert torch.equal(land(images, (40, 40)).argmax(dim=1), 1 - made(images, (40, 40)).argmax(dim=1))
    # With a class to look for, the rule is that of `IndexThreshold`.
    rule = IndexThreshold.fit(mndwi, water.numpy() == 1, np.ones((1, 40, 40), bool))
    named = fitted("index", images, water, ["land", "water"], pair=["green", "swir_1"], positive="water", above=True)
    assert float(named.threshold) == pytest.approx(rule.threshold, abs=1e-5)
    differ = named(images, (40, 40)).argmax(dim=1).bool().numpy() != rule.predict(mndwi)
    assert differ.mean() < 0.001  # float32 beside float64


def test_baselines_that_cannot_be_say_why() -> None:
    with pytest.raises(InapplicableError, match="two classes on one date; these data have 13 classes and 3 dates"):
        head("index", 3, 13)
    with pytest.raises(ModelError, match="an index is of two bands"):
        head("index", pair=["green"])
    with pytest.raises(ModelError, match="a baseline needs input="):
        Segmenter(configure("prithvi_hls_tiny"), 2, "trees")
    for name in ("index", "image_statistics", "trees"):
        with pytest.raises(DatasetError, match="labelled pixels of two classes or more"):
            fitted(name, torch.randn(1, 6, 8, 8), torch.zeros(8, 8, dtype=torch.long), ["land", "water"])
    assert pairs_of(["red", "nir_broad"]) == {"ndvi": (1, 0)}


@pytest.mark.parametrize("name", ["image_statistics", "random_features", "trees"])
def test_a_date_without_data_counts_as_missing_and_not_as_the_mean(name: str) -> None:
    if name == "trees":
        pytest.importorskip("sklearn")
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 12, 32, 32, generator=generator)
    images[0, 6:, :16] = 0  # no data on the second date
    label = (images[:, 0] + images[:, 3] > 0).long()
    made = fitted(name, images, label, ["a", "b", "never"])
    scores = made(images, (32, 32))
    assert scores.shape == (2, 3, 32, 32)
    assert scores.isfinite().all()
    assert float((scores.argmax(dim=1) == label).float().mean()) > 0.85
    assert not (scores.argmax(dim=1) == 2).any()
    if name != "random_features":
        described = made.describe(images, (32, 32))
        assert described[0, :, 3, 3].isnan().any()
        assert not described[1].isnan().any()


@pytest.mark.parametrize(
    "name",
    [
        "index",
        "trees",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("image_statistics", "random_features", "token_trees")
        ),
    ],
)
def test_a_baseline_can_be_exported(name: str, tmp_path: Path) -> None:
    if "trees" in name:
        pytest.importorskip("sklearn")
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(200, 4000, (6, 1, 32, 32), generator=generator, dtype=torch.int16)
    label = (image[1, 0] > image[4, 0]).long()
    task = small_task(head=name, **({"head_options": {"rounds": 10}} if "trees" in name else {}))
    fit_head(task, [{"image": image, "valid": torch.ones(1, 32, 32, dtype=torch.bool), "label": label}])
    model = load(save(task.fitted(), tmp_path / "model"))
    program = load(export(model, tmp_path / "model.pt2"))
    images = torch.rand(3, 6, 1, 32, 32, generator=generator) * 3000  # another number of windows than was traced
    images[0, :, 0, :4] = torch.nan
    with torch.no_grad():
        torch.testing.assert_close(program.module(images), model.module(images))


def test_statistics_over_time_are_of_the_dates_with_data() -> None:
    values = torch.randn(1, 4, 3, 5, 5)
    values[0, 1:3, :, 0, 0] = torch.nan
    values[0, :, :, 1, 1] = torch.nan
    found = over_time(values)[0]
    numpy = values[0].numpy()
    for place, name in enumerate(("nanmean", "nanstd", "nanmin", "nanmax")):
        expected = getattr(np, name)(numpy[:, :, [0, 3], [0, 4]], axis=0)
        np.testing.assert_allclose(found[place][:, [0, 3], [0, 4]].numpy(), expected, atol=1e-6)
    assert found[:, :, 1, 1].isnan().all()
