"""Losses against sums by hand, and what must not change them."""

from __future__ import annotations

import math

import pytest
import torch

from prithvi.metrics import IGNORE
from prithvi.tasks.losses import SEGMENTATION_LOSSES, dice, focal


def given() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    label = torch.randint(0, 3, (2, 6, 5), generator=random)
    label[0, :2] = IGNORE
    return torch.randn(2, 3, 6, 5, generator=random), label, torch.tensor([0.2, 0.3, 0.5])


@pytest.mark.parametrize("name", SEGMENTATION_LOSSES)
def test_unlabelled_pixels_count_nothing_and_a_right_answer_costs_less(name: str) -> None:
    loss, (scores, label, weights) = SEGMENTATION_LOSSES[name], given()
    changed = scores.clone()
    changed[0, :, :2] += torch.randn(3, 2, 5) * 50
    assert torch.equal(loss(changed, label, weights), loss(scores, label, weights))
    right = torch.nn.functional.one_hot(label.clamp(min=0), 3).movedim(-1, 1) * 20.0
    assert float(loss(right, label, weights)) < 0.05 < float(loss(scores, label, weights))
    nothing = scores.clone().requires_grad_()
    none = loss(nothing, torch.full_like(label, IGNORE), weights)
    none.backward()
    assert float(none.detach()) == 0
    assert torch.isfinite(nothing.grad).all()


def test_focal_and_dice_are_those_of_a_loop_over_pixels() -> None:
    scores, label, weights = given()
    share = scores.softmax(dim=1)
    total, counted = 0.0, 0.0
    both, either = [0.0] * 3, [0.0] * 3
    for sample in range(2):
        for y in range(6):
            for x in range(5):
                true = int(label[sample, y, x])
                if true == IGNORE:
                    continue
                p = float(share[sample, true, y, x])
                total += float(weights[true]) * (1 - p) ** 2 * -math.log(p)
                counted += float(weights[true])
                for number in range(3):
                    q = float(share[sample, number, y, x])
                    both[number] += q * (number == true)
                    either[number] += q**2 + (number == true)
    assert float(focal(scores, label, weights)) == pytest.approx(total / counted, rel=1e-5)
    overlap = [(2 * b + 1) / (e + 1) for b, e in zip(both, either, strict=True)]
    by_hand = sum(float(w) * (1 - o) for w, o in zip(weights, overlap, strict=True)) / float(weights.sum())
    assert float(dice(scores, label, weights)) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize(("name", "theirs"), [("jaccard", "JaccardLoss"), ("lovasz", "LovaszLoss")])
def test_jaccard_and_lovasz_are_those_of_segmentation_models_pytorch(name: str, theirs: str) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch", reason="needs the terratorch extra")
    scores, label, _ = given()
    whole = label.clamp(min=0)  # their Jaccard loss has no label to ignore
    expected = getattr(smp.losses, theirs)("multiclass")(scores, whole)
    ours = SEGMENTATION_LOSSES[name](scores, whole, torch.ones(3))
    assert float(ours) == pytest.approx(float(expected), rel=1e-5)
    if name == "lovasz":
        expected = smp.losses.LovaszLoss("multiclass", ignore_index=IGNORE)(scores, label)
        assert float(SEGMENTATION_LOSSES[name](scores, label, torch.ones(3))) == pytest.approx(
            float(expected), rel=1e-5
        )
    absent = torch.where(whole == 2, 0, whole)
    assert float(SEGMENTATION_LOSSES[name](scores, absent, torch.ones(3))) == pytest.approx(
        float(getattr(smp.losses, theirs)("multiclass")(scores, absent)), rel=1e-5
    )
