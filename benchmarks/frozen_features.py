"""Frozen features under a linear probe: from 10, 30 and 100 labels of each class, on places apart from these.

A logistic regression (C = 0.1, features standardised by the labelled pixels) on each kind of features; balanced
accuracy. Nothing is chosen by a figure. A label is a pixel; those of a class come from as many fields or chips as there
are. Splits: halves of the WorldCereal site with four pixels between them, both ways; halves of AgriFieldNet's places
(chips, joined where they share a field), twice, both ways; the folds of hls_water's places.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from labelled_imagery import READERS, Imagery, of_fold
from model_features import (
    Features,
    filtered,
    has_branch,
    model_features,
    random_filters,
    raw,
    smoothed,
    spectral,
    with_indices,
)
from trials import Trial

from prithvi.contract import IGNORE
from prithvi.modelio import load
from prithvi.modelio.loader import find
from prithvi.models import PrithviMAE

LABELS = (10, 30, 100)
"""Labelled pixels of each class."""
FILTERS = 512
A_FIELD, A_CHIP = 16, 400
"""Upper limit of pixels of a field of AgriFieldNet and of a chip of hls_water that are looked at."""
DATA = ("worldcereal", "agrifieldnet", "water")
BASELINES = (
    "raw", "raw + indices", "raw + statistics + indices", "random patches", "random gaussian filters",
    *(f"context {sigma}" for sigma in (1, 2, 4)), *(f"spectral + context {sigma}" for sigma in (1, 2, 4)),
)  # fmt: skip
OF_MODELS = ("tokens", "tokens of all layers", "branch", "branch with tokens", "fused", "fused in equal parts")
"""Kinds of features of a model; each is also measured with random weights of the same shape (`random: tokens`)."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """The pixels of some imagery that are looked at, in the order of their features."""

    chip: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    column: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    unit: npt.NDArray[np.int64]
    """Number of its field, or chip: labels are spread over them."""


@lru_cache(maxsize=1)
def pixels_of(imagery: Imagery) -> Pixels:
    """Labelled pixels of good chips, a limited number of each field or chip, always the same ones."""
    generator, found = np.random.default_rng(0), []
    for number, chip in enumerate(imagery.chips):
        rows, columns = np.nonzero((chip.label != IGNORE) & chip.valid.any(axis=0)) if chip.good else ([], [])
        unit = np.full(len(rows), number) if chip.fields is None else chip.fields[rows, columns]
        most = A_FIELD if chip.fields is not None else A_CHIP if imagery.name == "water" else len(rows)
        order = generator.permutation(len(rows))
        order = np.sort(order[rank_in_unit(unit[order]) < most])
        rows, columns = np.asarray(rows, int)[order], np.asarray(columns, int)[order]
        found.append((np.full(len(order), number), rows, columns, chip.label[rows, columns], unit[order]))
    return Pixels(*(np.concatenate(parts).astype(np.int64) for parts in zip(*found, strict=True)))


def rank_in_unit(unit: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """How many of the same unit come before each."""
    order = np.argsort(unit, kind="stable")
    starts = np.searchsorted(unit[order], unit[order], side="left")
    rank = np.empty(len(unit), np.int64)
    rank[order] = np.arange(len(unit)) - starts
    return rank


def drawn(pixels: Pixels, usable: npt.NDArray[np.bool_], number: int, generator: np.random.Generator) -> Any:
    """Numbers of `number` pixels of each class, one of every unit before a second one of any."""
    chosen = []
    for label in np.unique(pixels.label):
        order = generator.permutation(np.flatnonzero(usable & (pixels.label == label)))
        chosen.append(order[np.argsort(rank_in_unit(pixels.unit[order]), kind="stable")][:number])
    return np.concatenate(chosen)


def splits(imagery: Imagery, pixels: Pixels, fold: int) -> Iterator[tuple[Any, Any]]:
    """Where labels may be drawn and where features are tested: two bool arrays over the pixels, for each split."""
    if imagery.name == "worldcereal":
        for place in (pixels.column, pixels.row):
            yield place < 30, place >= 34
            yield place >= 34, place < 30
    elif imagery.name == "water":
        tested = np.array([chip.fold == fold for chip in imagery.chips])[pixels.chip]
        yield ~tested, tested
    else:
        places = sorted({chip.place for chip in imagery.chips})
        for half in range(2):
            first = set(np.random.default_rng(half).permutation(places)[: len(places) // 2].tolist())
            inside = np.array([chip.place in first for chip in imagery.chips])[pixels.chip]
            yield inside, ~inside
            yield ~inside, inside


def at(imagery: Imagery, pixels: Pixels, of: Any) -> Features:
    """(pixel, F) of a function from (image, days) to (F, y, x)."""
    found = []
    for number, chip in enumerate(imagery.chips):
        here = pixels.chip == number
        if here.any():
            features = of(chip.reflectance(imagery.scale), chip.days)
            found.append(features[:, pixels.row[here], pixels.column[here]].T)
    return np.concatenate(found).astype(np.float32)


def baseline(imagery: Imagery, pixels: Pixels, kind: str, seed: int) -> Features:
    """(pixel, F) features that need no training."""
    if kind.startswith("random "):
        return convolved(imagery, pixels, kind, seed)
    if "context" in kind:
        both, sigma = kind.startswith("spectral"), float(kind.split()[-1])

        def neighbours(image: Features, days: Any) -> Features:
            known = spectral(image)
            around = smoothed(known, sigma)
            return np.concatenate([known, around]) if both else around

        return at(imagery, pixels, neighbours)
    of = {
        "raw": raw,
        "raw + indices": lambda image: with_indices(image).reshape(-1, *image.shape[2:]),
        "raw + statistics + indices": spectral,
    }[kind]
    return at(imagery, pixels, lambda image, days: of(image))


class Standardised(Sequence[Features]):
    """(date * band, y, x) standardised images of some imagery, made as they are asked for."""

    def __init__(self, imagery: Imagery) -> None:
        self.imagery = imagery
        every = [self._bands(number)[:, ::4, ::4] for number in range(len(imagery.chips))]
        flat = np.concatenate([image.reshape(len(image), -1) for image in every], axis=1)
        self.mean, self.std = (values[:, None, None] for values in (flat.mean(axis=1), flat.std(axis=1)))

    def _bands(self, number: int) -> Features:
        return raw(self.imagery.chips[number].reflectance(self.imagery.scale))

    def __len__(self) -> int:
        return len(self.imagery.chips)

    def __getitem__(self, number: Any) -> Any:
        return (self._bands(number) - self.mean) / self.std


@lru_cache(maxsize=1)
def standardised(imagery: Imagery) -> Standardised:
    """The same, kept."""
    return Standardised(imagery)


def convolved(imagery: Imagery, pixels: Pixels, kind: str, seed: int) -> Features:
    """Responses of random filters of 3 x 3 and 5 x 5 pixels, half of each; above 0 and below 0 are two features."""
    images, of = standardised(imagery), "gaussian" if "gaussian" in kind else "patches"
    filters = {size: random_filters(images, size, FILTERS // 4, of, seed) for size in (3, 5)}
    found = []
    for number in np.unique(pixels.chip):
        image, here = images[number], pixels.chip == number
        places = pixels.row[here], pixels.column[here]
        found.append(np.concatenate([filtered(image, *places, filters[size], size) for size in filters], axis=1))
    return np.concatenate(found)


PART = {"tokens": "last", "tokens of all layers": "all", "branch": "branch", "branch with tokens": "fused"}
"""Kinds that are one part of `model_features`."""


def of_model(model: PrithviMAE, imagery: Imagery, pixels: Pixels, kind: str) -> Features:
    """(pixel, F) features of a model; what is fused in equal parts is weighted by the size of its part."""
    if kind in PART:
        return at(imagery, pixels, lambda image, days: model_features(model, image, days, [PART[kind]]))
    names = [*(["branch"] if has_branch(model) else []), "last"]
    each = [at(imagery, pixels, lambda image, days, n=name: model_features(model, image, days, [n])) for name in names]
    return np.concatenate([*each, at(imagery, pixels, lambda image, days: spectral(image))], axis=1)


def parts_of(features: int, model: PrithviMAE, spectral_features: int) -> list[int]:
    """Numbers of features of each part of the fused ones."""
    tokens = model.config.embed_dim * (model.config.num_frames // model.config.patch_size[0])
    return [size for size in (features - tokens - spectral_features, tokens, spectral_features) if size]


def probe(features: Features, pixels: Pixels, train: Any, test: Any, weights: Any = None) -> npt.NDArray[np.int64]:
    """Classes of the pixels in `test` by a logistic regression on those in `train`."""
    from sklearn.linear_model import LogisticRegression

    mean, std = features[train].mean(axis=0), features[train].std(axis=0)
    scale = np.where(std > 1e-9, std, 1.0) / (1.0 if weights is None else weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = LogisticRegression(C=0.1, max_iter=500).fit((features[train] - mean) / scale, pixels.label[train])
    classes: npt.NDArray[np.int64] = fitted.predict((features[test] - mean) / scale)
    return classes


def balanced_accuracy(found: Any, truth: Any) -> float:
    """Mean share of each class's pixels that were found."""
    return float(np.mean([(found[truth == label] == label).mean() for label in np.unique(truth)]))


def open_model(source: str, frames: int) -> PrithviMAE:
    """A pretrained model for a number of dates."""
    model = load(source, num_frames=frames)
    assert isinstance(model, PrithviMAE), f"{source} is no pretrained model"
    return model


@lru_cache(maxsize=1)
def features_of(root: Path, data: str, method: str, weights: str, seed: int) -> tuple[Features, Any]:
    """(pixel, F) features of a method, and their weights if they have any; `seed` is -1 where it changes nothing."""
    imagery = READERS[data](root)
    pixels = pixels_of(imagery)
    if method in BASELINES:
        return baseline(imagery, pixels, method, seed), None
    model = open_model(weights, imagery.frames)
    if method.startswith("random: "):
        torch.manual_seed(seed)
        model = PrithviMAE(model.config).eval()
    kind = method.removeprefix("random: ")
    features, each = of_model(model, imagery, pixels, kind), None
    if kind == "fused in equal parts":
        own = spectral(np.zeros((imagery.frames, 6, 1, 1), np.float32)).shape[0]
        each = np.concatenate([np.full(size, size**-0.5) for size in parts_of(features.shape[1], model, own)])
        each *= np.sqrt(own)  # the spectral part as strong as it is alone
    return features, each


def run(trial: Trial, root: Path) -> dict[str, Any]:
    """One kind of features with one draw of labels, over all splits."""
    torch.set_num_threads(1)
    imagery = READERS[trial.data](root)
    pixels = pixels_of(imagery)
    drawn_by_seed = trial.method.startswith("random")
    features, weights = features_of(
        root, trial.data, trial.method, of_fold(trial.weights, trial.fold) or "", trial.seed if drawn_by_seed else -1
    )
    scores: dict[str, list[float]] = {str(number): [] for number in LABELS}
    counts: dict[str, list[int]] = {}
    for train, test in splits(imagery, pixels, trial.fold):
        assert not set(pixels.unit[train]) & set(pixels.unit[test]) or imagery.name == "worldcereal"
        for number in LABELS:
            chosen = drawn(pixels, train, number, np.random.default_rng(trial.seed))
            found, truth = probe(features, pixels, chosen, test, weights), pixels.label[test]
            scores[str(number)].append(balanced_accuracy(found, truth))
            if imagery.name == "water":
                hits = ((found == 1) & (truth == 1), (found == 1) & (truth == 0), (found == 0) & (truth == 1))
                counts[str(number)] = [int(hit.sum()) for hit in hits]
    figures = {number: float(np.mean(values)) for number, values in scores.items()}
    return {"figures": figures, "splits": scores, "counts": counts, "features": features.shape[1]}


def trials(
    data: str, seeds: int, weights: str | None, digest: Callable[[str, bool], str], kinds: Sequence[str] = ()
) -> list[Trial]:
    """All trials of one kind of data.

    Args:
        data: one of `DATA`.
        seeds: number of seeds.
        weights: a pretrained model, or one for each fold (`{fold}`); None for the baselines alone.
        digest: of a source's weights, or of its shape alone (False), so that others are other trials.
        kinds: the features that are wanted; all by default.

    """
    methods = [method for method in BASELINES if data == "worldcereal" or "statistics" not in method]
    folds = range(5) if data == "water" else (-1,)
    if weights is not None:
        branch = getattr(find(of_fold(weights, 0) or "")[0], "pixel_width", 0)
        own = [kind for kind in OF_MODELS if "branch" not in kind or branch]
        methods += [f"{of}{kind}" for kind in own for of in ("", "random: ")]
    found = []
    for method in methods:
        for fold in folds if not kinds or method in kinds else ():
            known = ("", "")
            if method not in BASELINES and weights is not None:
                known = weights, digest(of_fold(weights, fold) or "", not method.startswith("random: "))
            found += [Trial("frozen", data, method, 0, seed, fold, *known) for seed in range(seeds)]
    return found
