"""The protocol of benchmarks/bench_default_model.py: no place on two sides, nothing run twice, known figures."""

from __future__ import annotations

import datetime as dt
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prithvi.contract import IGNORE
from prithvi.models import Standardise

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
pytest.importorskip("h5py")
pytest.importorskip("sklearn")
import fine_tuning_shares
import frozen_features
import label_shares
import trials
import water_by_place
from labelled_imagery import Imagery, LabelledChip, _sharing, floods

SEEDS = range(3)


def chip(name: str, place: str, label: Any, fields: Any = None, **facts: Any) -> LabelledChip:
    label = np.asarray(label, np.int64)
    image = np.random.default_rng(len(name)).integers(100, 4000, (1, 6, *label.shape)).astype(np.int16)
    valid = np.ones((1, *label.shape), bool)
    return LabelledChip(name, image, valid, label, place, (None,), fields, **facts)


@pytest.fixture(scope="module")
def farms() -> Imagery:
    """Two chips of each of 24 places, in squares of fields of two crops."""
    chips = []
    for number in range(48):
        fields = np.kron(np.arange(1, 17).reshape(4, 4) + 100 * (number // 2), np.ones((20, 20), int))
        label = np.where(fields % 4 == 0, IGNORE, fields % 2)
        part = ("train", "train", "train", "val", "test")[number // 2 % 5]
        chips.append(chip(f"farm{number}", f"place{number // 2}", label, fields, part=part))
    return Imagery("agrifieldnet", tuple(chips), ("a", "b"), 10_000.0, None)


@pytest.fixture(scope="module")
def lakes() -> Imagery:
    """Thirty chips of fifteen places in five folds; those of two places are not good to learn from."""
    chips = []
    for number in range(30):
        label = np.zeros((32, 32), int)
        label[: number // 2 + 2] = 1
        chips.append(chip(str(number), f"lake{number // 2}", label, fold=number // 2 % 5, good=number // 2 > 1))
    return Imagery("water", tuple(chips), ("land", "water"), 10_000.0, "SR")


def test_no_field_is_labelled_and_tested(farms: Imagery) -> None:
    pixels = frozen_features.pixels_of(farms)
    pairs = list(frozen_features.splits(farms, pixels, -1))
    assert len(pairs) == 4
    for train, test in pairs:
        assert train.any()
        assert test.any()
        assert not set(pixels.unit[train]) & set(pixels.unit[test])
    assert np.bincount(pixels.unit).max() <= 2 * frozen_features.A_FIELD  # of each of two chips


def test_labels_come_from_as_many_fields_as_there_are(farms: Imagery) -> None:
    pixels = frozen_features.pixels_of(farms)
    train, _ = next(frozen_features.splits(farms, pixels, -1))
    for seed in SEEDS:
        chosen = frozen_features.drawn(pixels, train, 10, np.random.default_rng(seed))
        assert train[chosen].all()
        assert np.bincount(pixels.label[chosen]).tolist() == [10, 10]
        assert len(set(pixels.unit[chosen])) == 20


def test_chips_that_share_a_field_are_one_place() -> None:
    found = _sharing([("a", {1}), ("b", {2}), ("c", {2, 3}), ("d", {1, 3}), ("e", {4})])
    assert found == {**dict.fromkeys("abcd", "a"), "e": "e"}


@pytest.mark.parametrize("fold", range(5))
def test_no_place_of_a_fold_is_trained_on(lakes: Imagery, fold: int) -> None:
    part = label_shares.parts(lakes, fold)
    places = [{chip.place for chip in chips} for chips in (part.train, part.val, part.test)]
    assert all(places)
    assert not places[0] & places[1]
    assert not (places[0] | places[1]) & places[2]
    assert all(chip.good for chip in part.train + part.val)
    assert {chip.name for chip in part.test} == {chip.name for chip in lakes.chips if chip.fold == fold}


def test_no_chip_of_a_place_lies_in_two_parts(farms: Imagery) -> None:
    part = label_shares.parts(farms)
    places = [{chip.place for chip in chips} for chips in (part.train, part.val, part.test)]
    assert sum(map(len, places)) == len(set.union(*places)) == 24
    whole = sum(int((chip.label != IGNORE).sum()) for chip in farms.chips)
    cut = sum(int((chip.label != IGNORE).sum()) for chips in (part.train, part.val, part.test) for chip in chips)
    assert cut == whole  # squares lose no label


def test_a_share_of_the_labels_has_every_class_and_about_its_size(farms: Imagery) -> None:
    def labelled(chips: list[LabelledChip]) -> int:
        return sum(int((chip.label != IGNORE).sum()) for chip in chips)

    chips = list(farms.chips)
    for share in (0.1, 0.3, 1.0):
        drawn = [label_shares.share_of(farms, chips, share, seed) for seed in SEEDS]
        for kept in drawn:
            assert {int(label) for chip in kept for label in np.unique(chip.label)} == {IGNORE, 0, 1}
            assert labelled(kept) / labelled(chips) == pytest.approx(share, abs=0.03)
        if share < 1:
            assert len({tuple(np.unique(np.concatenate([c.fields[c.label >= 0] for c in kept])))
                        for kept in drawn}) == len(SEEDS)  # fmt: skip


def test_the_parts_of_the_flood_are_those_of_the_demo() -> None:
    imagery = floods()
    part = label_shares.parts(imagery)
    assert [chips[0].label.shape[1] for chips in (part.train, part.val, part.test)] == [224, 64, 160]
    (tenth,) = label_shares.share_of(imagery, part.train, 0.1, 0)
    blocks = (tenth.label != IGNORE).reshape(16, 32, 7, 32).any(axis=(1, 3))
    assert 9 <= blocks.sum() <= 13  # of 112
    assert (tenth.label == 1).any()


def test_crops_hold_a_labelled_pixel() -> None:
    label = np.full((80, 80), IGNORE)
    label[70:72, 3:5] = 1
    crops = fine_tuning_shares.Crops([chip("a", "a", label)], 32, 20)
    for sample in crops:
        assert sample["image"].shape == (6, 1, 32, 32)
        assert (sample["label"] == 1).any()


def test_a_trial_that_ended_is_not_run_again(tmp_path: Path) -> None:
    ran: list[int] = []

    def run(trial: trials.Trial) -> dict[str, Any]:
        ran.append(trial.seed)
        return {"figures": {"score": trial.seed / 10}}

    first = [trials.Trial("frozen", "lakes", "raw + indices", 0, seed) for seed in range(2)]
    trials.run_all(first, tmp_path, run)
    third = [*first, replace(first[0], seed=2), replace(first[0], digest="other weights")]
    results = trials.run_all(third, tmp_path, run)
    assert ran == [0, 1, 2, 0]
    assert [result["figures"]["score"] for result in results] == [0.0, 0.1, 0.2, 0.0]
    assert trials.run_all(third, tmp_path, run) == results
    assert len(ran) == 4


def test_a_table_has_mean_and_deviation(tmp_path: Path) -> None:
    text = trials.table("t", ["method", "IoU"], [["a", trials.spread([0.5, 0.7])]], tmp_path / "t")
    assert "| a | 0.600 ± 0.141 |" in text
    assert (tmp_path / "t.csv").read_text().splitlines() == ["method,IoU,IoU std", "a,0.6000,0.1414"]


def test_the_difference_by_place_is_paired() -> None:
    """The same gap at every place is sure, however much places differ; a gap at one place of many is not."""
    generator = np.random.default_rng(0)
    better = {str(n): np.array([h, 1000]) for n, h in enumerate(generator.integers(100, 900, 40))}
    worse = {place: counts - (50, 0) for place, counts in better.items()}
    gap, low, high = water_by_place.difference(better, worse)
    assert (gap, low, high) == pytest.approx((0.05, 0.05, 0.05), abs=1e-9)
    once = {place: counts - (50 * (place == "0"), 0) for place, counts in better.items()}
    gap, low, high = water_by_place.difference(better, once)
    assert low <= 0 < gap < high


def test_water_is_pooled_over_pixels_of_good_chips_or_of_all() -> None:
    def of(place: str, good: bool, matrix: list[list[int]]) -> dict[str, Any]:
        return {"place": place, "good": good, "confusion": matrix}

    chips = [of("a", True, [[5, 1], [1, 3]]), of("b", True, [[0, 0], [2, 5]]), of("b", False, [[0, 10], [0, 0]])]
    results = [{"trial": {"seed": 0, "method": "m"}, "chips": chips}]
    assert water_by_place.by_seed(results, good=True) == [8 / 12]
    assert water_by_place.by_seed(results, good=False) == [8 / 22]


def test_random_filters_respond_as_a_convolution_does() -> None:
    import torch
    from model_features import filtered, random_filters

    image = np.random.default_rng(0).normal(size=(6, 20, 24)).astype(np.float32)
    filters = random_filters([image], 3, 4, "patches", 0)
    rows, columns = np.array([0, 7, 19]), np.array([23, 5, 0])
    padded = torch.from_numpy(np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="reflect"))[None]
    whole = torch.nn.functional.conv2d(padded, torch.from_numpy(filters).view(4, 6, 3, 3))[0].numpy()
    found = filtered(image, rows, columns, filters, 3)
    np.testing.assert_allclose(found[:, :4] - found[:, 4:], whole[:, rows, columns].T, atol=1e-5)
    assert (found >= 0).all()


def test_what_is_left_out_where_there_are_no_data_comes_from_the_other_dates() -> None:
    from model_features import spectral

    image = np.full((3, 6, 2, 2), 0.2, np.float32)
    image[1] = np.nan
    assert np.isfinite(spectral(image)).all()
    assert spectral(image).shape == (3 * 12 + 4 * 12, 2, 2)
    assert spectral(image[:1]).shape == (12, 2, 2)


def test_features_of_a_model_are_of_every_pixel_and_date() -> None:
    import torch
    from model_features import model_features

    from prithvi.models import build

    torch.manual_seed(0)
    model = build("prithvi_hls_tiny", num_frames=2, img_size=32).eval()
    image = np.random.default_rng(0).uniform(0, 0.5, (2, 6, 40, 48)).astype(np.float32)
    days = (None, dt.date(2018, 7, 1))
    sizes = {"last": 2 * 96, "all": 4 * 2 * 96, "branch": 2 * 32, "fused": 2 * 32}
    found = {part: model_features(model, image, days, [part]) for part in sizes}
    assert {part: len(features) for part, features in found.items()} == sizes
    assert all(features.shape[1:] == (40, 48) and np.isfinite(features).all() for features in found.values())
    np.testing.assert_array_equal(found["fused"], found["branch"])  # the gate begins shut
    np.testing.assert_array_equal(found["all"][-2 * 96 :], found["last"])


def test_the_branch_alone_has_no_encoder() -> None:
    imagery = floods()
    contract = fine_tuning_shares.contract_of_pixels(imagery, imagery.chips)
    task = fine_tuning_shares.task_of("branch alone", imagery, contract, "prithvi_hls_tiny", "fused").eval()
    assert task.model.encoder is None
    assert task.head_name == "branch"


def test_water_of_the_pseudo_labels_is_what_pretraining_scored_highest() -> None:
    import torch

    import prithvi

    mae: Any = prithvi.load("prithvi_hls_tiny")
    values = np.random.default_rng(0).integers(100, 4000, (1, 6, 64, 64)).astype(np.int16)
    made = replace(chip("a", "a", np.zeros((64, 64), np.int64)), image=values)
    standardised = Standardise(mae.contract)(torch.from_numpy(values.swapaxes(0, 1))[None])
    names = list(mae.config.labels)
    rows = [names.index(name) for name in fine_tuning_shares.CLASSES]
    for head in ("fused", "branch"):
        task = fine_tuning_shares.as_pretrained("prithvi_hls_tiny", head)
        (found,) = fine_tuning_shares.classes_of(task, [made])
        with torch.no_grad():
            scores = mae.label_scores(standardised, shut=torch.tensor([head == "branch"]))[0, rows]
        np.testing.assert_array_equal(found, scores.argmax(dim=0).numpy())


def test_trials_of_other_weights_are_others_and_baselines_the_same() -> None:
    def files(digest: str) -> set[str]:
        found = fine_tuning_shares.trials("water", 1, "DIR/fold{fold}", lambda *_: digest, 300, "fused")
        return {trial.file(Path("out")).as_posix() for trial in found}

    both = files("a") & files("b")
    assert {path.split("/")[-1].split("_")[0] for path in files("a") - both} == {
        "pretrained", "random-weights", "branch-alone", "pseudo-labels", "pseudo-labels,-branch-alone",
    }  # fmt: skip
    assert {path.split("/")[-1].split("_")[0] for path in both} == {
        "U-Net", "trees", "trees-+-indices", "linear", "index", "MNDWI->-0", "Fmask",
    }  # fmt: skip


def test_a_share_is_lost_where_the_best_other_is_further_than_a_deviation() -> None:
    import bench_default_model

    def said(own: list[float]) -> str:
        values = {"pretrained": {0.1: own}, "trees": {0.1: [0.80, 0.82]}, "U-Net": {0.1: [0.7, 0.7]}}
        return bench_default_model.verdict(values, 0.1)

    assert said([0.83, 0.85]) == "+0.030 (trees): won"
    assert said([0.80, 0.80]) == "-0.010 (trees): reached"
    assert said([0.78, 0.78]) == "-0.030 (trees): lost"


def test_sites_of_water_are_pooled_over_their_pixels() -> None:
    import water_model

    label = np.zeros((64, 64), np.int64)
    label[:, :32] = 1
    values = np.full((1, 6, 64, 64), 1000, np.int16)
    values[0, 1, :, :16] = 3000  # green above SWIR 1: MNDWI finds a half of the water
    fmask = np.where(np.arange(64) < 48, 32, 0).astype(np.uint8)[None].repeat(64, axis=0)
    made = replace(chip("a", "site", label), image=values, fmask=fmask)
    dry = replace(chip("b", "dry", np.zeros((64, 64), np.int64)), image=values[..., ::-1].copy(), fmask=fmask * 0)
    rough = replace(made, name="c", good=False)
    imagery = Imagery("water", (made, dry, rough), ("land", "water"), 10_000.0, "SR")
    called = {name: np.where(np.arange(64) < 40, 1, 4)[None].repeat(64, axis=0) for name in ("a", "c")}
    called["b"] = np.zeros((64, 64), np.int64)
    first, second = water_model.by_site(imagery, called, good=True)
    assert (first["site"], first["chips"], first["water"], second["water"]) == ("site", "1", 0.5, 0.0)
    assert first["IoU"] == pytest.approx(32 / 40)
    assert first["Fmask's IoU"] == pytest.approx(32 / 48)
    assert first["MNDWI's IoU"] == pytest.approx(16 / 32)
    assert np.isnan(second["IoU"])
    assert water_model.pooled([first, second], "MNDWI's IoU") == pytest.approx(16 / (32 + 16))
    assert [row["chips"] for row in water_model.by_site(imagery, called, good=False)] == ["2", "1"]
    land, water = water_model.confused(imagery, called)
    assert land == {"class": "land", "land": 4096, "water": 8 * 64, "snow": 0, "cloud": 0, "shadow": 24 * 64}
    assert water == {"class": "water", "land": 0, "water": 32 * 64, "snow": 0, "cloud": 0, "shadow": 0}
