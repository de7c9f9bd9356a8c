"""Fine-tuning at 10, 30 and 100 % of the labels: pretrained, random weights, the branch alone, U-Net, trees, an index.

All networks have the same steps, rate, crops and checks: the weights of the best check on the validation part are
tested. Pixel methods are fitted on the same labels (at most 100,000 pixels) and choose nothing.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from label_shares import SQUARE, Parts, parts, share_of
from labelled_imagery import BANDS, READERS, Imagery, LabelledChip, of_fold, worldcereal
from model_features import PAIRS
from torch.utils.data import DataLoader, Dataset
from trials import Trial

from prithvi.contract import IGNORE, Contract
from prithvi.evaluation import IndexThreshold, PixelTrees, normalised_difference
from prithvi.metrics.segmentation_metrics import figures
from prithvi.modelio.loader import contract_of, find, load_weights
from prithvi.models.config import ModelConfig
from prithvi.models.zoo import configure
from prithvi.tasks import SegmentationTask
from prithvi.tasks.measured_task import rescaled

SHARES = (0.1, 0.3, 1.0)
DATA = ("floods", "water", "worldcereal", "agrifieldnet")
FIGURE = {"floods": "IoU_water", "water": "IoU_water", "burn": "IoU_burn scar"}
"""What is reported and what the best check is chosen by; else mIoU."""
INDEX = {"floods": (1, 4, True), "water": (1, 4, True), "burn": (3, 5, False)}
"""Bands of the index of data with two classes, and whether the second class lies above the threshold."""
WINDOW = {"worldcereal": 32}
STEPS = {"floods": 300, "worldcereal": 300}
"""Of every network; else 200, so that five seeds on two cores end within a working day."""
PIXELS, BATCH, CHECKS, RATE = 100_000, 8, 6, 1e-3
NETWORKS = ("pretrained", "random weights", "branch alone", "U-Net")
ON_REQUEST = ("random, its statistics",)
"""Random weights whose input is standardised as the pretrained model's is, so that this is not what differs."""
PIXEL_METHODS = ("trees", "trees + indices", "linear", "index")
SHAPE = "prithvi_hls_tiny"
"""The shape of networks where no weights are given."""
FIXED = ("MNDWI > 0", "Fmask")
"""Rules that learn nothing, of water alone."""
AS_PRETRAINED = {"pseudo-labels": "fused", "pseudo-labels, branch alone": "branch"}
"""Heads of a pretrained model's own classifier of water, which sees no label of the task."""
CLASSES = ("land", "water", "snow", "cloud", "shadow")
COLOURS = ("a9a27d", "2166ac", "f7f7f7", "bdbdbd", "525252")
WATER = CLASSES.index("water")


def methods_of(data: str) -> list[str]:
    """What is compared on some data."""
    fixed = {"floods": FIXED[:1], "water": (*FIXED, *AS_PRETRAINED)}.get(data, ())
    return [*NETWORKS, *(m for m in PIXEL_METHODS if m != "index" or data in INDEX), *fixed]


def as_pretrained(weights: str, head: str) -> SegmentationTask:
    """The model as pretraining left it, its classes told by the labels that it learned there."""
    config, _ = find(weights)
    task = SegmentationTask(
        list(CLASSES), contract=config.contract.to_dict(), model=config.architecture, init=weights, statistics="init",
        head=head, window=64, colors=list(COLOURS), model_options=model_options(config),
    )  # fmt: skip
    if head == "fused":  # fine-tuning begins with a shut gate; this is the model before it
        load_weights(task.model, weights)
    return task.eval()


@torch.no_grad()
def classes_of(task: SegmentationTask, chips: Sequence[LabelledChip]) -> list[Any]:
    """(y, x) class numbers of each chip."""
    batches = DataLoader(Whole(chips), _together(chips))
    return [classes for batch in batches for classes in task(batch).argmax(dim=1).numpy()]


class Crops(Dataset[dict[str, Any]]):
    """Random squares around labelled pixels, each labelled pixel as likely as any other."""

    def __init__(self, chips: Sequence[LabelledChip], window: int, samples: int) -> None:
        self.whole, self.window, self.samples = [sample_of(chip) for chip in chips], window, samples
        places = [np.argwhere((chip.label != IGNORE) & chip.valid.any(axis=0)) for chip in chips]
        self.places = np.concatenate([np.insert(found, 0, number, axis=1) for number, found in enumerate(places)])

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index >= self.samples:
            raise IndexError(index)
        number, *pixel = self.places[int(torch.randint(len(self.places), ()))].tolist()
        sample = self.whole[number]
        square: list[slice] = []
        for at, length in zip(pixel, sample["label"].shape, strict=True):
            first, last = max(0, at - self.window + 1), max(0, min(at, length - self.window))
            start = int(torch.randint(first, last + 1, ())) if last >= first else last
            square.append(slice(start, start + self.window))
        return {key: value[(..., *square)] for key, value in sample.items()}


class Whole(Dataset[dict[str, Any]]):
    """Chips as they are."""

    def __init__(self, chips: Sequence[LabelledChip]) -> None:
        self.samples = [sample_of(chip) for chip in chips]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.samples[index]


def sample_of(chip: LabelledChip) -> dict[str, Any]:
    """A chip as `prithvi.data` gives it: image (band, time, y, x), valid, label."""
    image = torch.from_numpy(np.ascontiguousarray(chip.image.swapaxes(0, 1)))
    return {"image": image, "valid": torch.from_numpy(chip.valid.copy()), "label": torch.from_numpy(chip.label.copy())}


def contract_of_pixels(imagery: Imagery, chips: Sequence[LabelledChip]) -> Contract:
    """Statistics of the training part's pixels, with or without a label."""
    flat = np.concatenate([chip.image.swapaxes(0, 1)[:, chip.valid] for chip in chips], axis=1).astype(np.float64)
    return Contract(BANDS, tuple(flat.mean(axis=1)), tuple(flat.std(axis=1)), imagery.scale, level=imagery.level)


class BestCheck(L.Callback):
    """The weights with the highest figure of the validation part."""

    def __init__(self, name: str) -> None:
        self.name, self.points = name, list[tuple[int, float]]()
        self.state: dict[str, torch.Tensor] = {}

    def on_validation_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        found = float(torch.nan_to_num(trainer.callback_metrics[f"val/{self.name}"]))
        if not self.points or found > max(value for _, value in self.points):
            self.state = {key: value.clone() for key, value in task.state_dict().items()}
        self.points.append((trainer.global_step, round(found, 4)))


@lru_cache(maxsize=4)
def shape_of(source: str) -> ModelConfig:
    """The configuration of a pretrained model."""
    return find(source)[0]


def model_options(config: ModelConfig) -> dict[str, Any]:
    """What a configuration has otherwise than the named model."""
    named = configure(config.architecture).to_dict()
    said = {"num_frames", "img_size", "bands", "in_chans", "mean", "std", "architecture"}
    return {key: value for key, value in config.to_dict().items() if key not in said and value != named[key]}


def task_of(method: str, imagery: Imagery, contract: Contract, weights: str, head: str) -> SegmentationTask:
    """An untrained task of a method."""
    config = shape_of(weights)
    plain: dict[str, Any] = {
        "classes": list(imagery.classes), "contract": contract.to_dict(), "model": config.architecture,
        "model_options": model_options(config), "window": WINDOW.get(imagery.name, 64), "num_frames": imagery.frames,
        "lr": RATE,
    }  # fmt: skip
    if method == "pretrained":
        return SegmentationTask(**plain, init=weights, statistics="init", head=head)
    if method == "random, its statistics":
        plain["contract"] = rescaled(contract_of(weights), contract).to_dict()
    return SegmentationTask(**plain, head={"U-Net": "unet", "branch alone": "branch"}.get(method, head))


def network(method: str, imagery: Imagery, part: Parts, seed: int, steps: int, weights: str, head: str) -> Any:
    """(y, x) classes of each test chip, and the curve of the checks."""
    L.seed_everything(seed, verbose=False)
    figure = FIGURE.get(imagery.name, "mIoU")
    task = task_of(method, imagery, contract_of_pixels(imagery, part.train), weights, head)
    best = BestCheck(figure)
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[best], val_check_interval=max(1, steps // CHECKS),
        num_sanity_val_steps=0, gradient_clip_val=1.0,
    )  # fmt: skip
    train = Crops(part.train, WINDOW.get(imagery.name, 64), steps * BATCH)
    trainer.fit(task, DataLoader(train, BATCH), DataLoader(Whole(part.val), _together(part.val)))
    task.load_state_dict(best.state)
    return classes_of(task.eval(), part.test), best.points


def _together(chips: Sequence[LabelledChip]) -> int:
    """How many chips go through a network at once: squares do, larger chips one by one."""
    return BATCH if max(chips[0].label.shape) <= SQUARE else 1


def bands_of(chip: LabelledChip, scale: float, indices: bool) -> npt.NDArray[np.float32]:
    """(date * (band + index), y, x) reflectance and normalised differences, NaN where there are no data."""
    values = chip.reflectance(scale)
    pairs = [normalised_difference(values[:, a], values[:, b]).clip(-1, 1) for a, b in PAIRS] if indices else []
    both = np.concatenate([values, np.stack(pairs, axis=1)], axis=1) if indices else values
    return np.where(np.isfinite(both), both, np.nan).reshape(-1, *chip.label.shape).astype(np.float32)


def drawn_pixels(chips: Sequence[LabelledChip], of: Callable[[LabelledChip], Any], seed: int) -> tuple[Any, Any]:
    """(F, pixel) values and (pixel,) classes of labelled pixels, at most `PIXELS` of them."""
    values, labels = [], []
    for chip in chips:
        here = (chip.label != IGNORE) & chip.valid.any(axis=0)
        values.append(of(chip)[:, here])
        labels.append(chip.label[here])
    every, label = np.concatenate(values, axis=1), np.concatenate(labels)
    order = np.random.default_rng(seed).permutation(len(label))[:PIXELS]
    return every[:, order], label[order]


def pixel_method(method: str, imagery: Imagery, train: Sequence[LabelledChip], seed: int) -> Callable[..., Any]:
    """Predicts (y, x) classes of a chip."""
    if method in ("index", *FIXED):
        return index_rule(method, imagery, train, seed)
    of = partial(bands_of, scale=imagery.scale, indices="indices" in method or method == "linear")
    values, label = drawn_pixels(train, of, seed)
    if method == "linear":
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        fitted = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=300))
        fitted.fit(values.T, label)
        return lambda chip: of_labelled(chip, of, lambda pixels: fitted.predict(pixels.T))
    trees = PixelTrees(seed).fit(values[:, None], label[None], np.ones((1, len(label)), bool))
    return lambda chip: of_labelled(chip, of, lambda pixels: trees.predict(pixels[:, None])[0])


def of_labelled(chip: LabelledChip, of: Callable[[LabelledChip], Any], predict: Callable[[Any], Any]) -> Any:
    """(y, x) classes where there are labels to compare them with, 0 elsewhere."""
    here, result = chip.label != IGNORE, np.zeros(chip.label.shape, np.int64)
    result[here] = predict(of(chip)[:, here])
    return result


def index_rule(method: str, imagery: Imagery, train: Sequence[LabelledChip], seed: int) -> Callable[..., Any]:
    """A threshold of an index: fitted, or 0; or Fmask's own water bit."""
    if method == "Fmask":
        return lambda chip: (chip.fmask >> 5) & 1
    first, second, above = INDEX[imagery.name]

    def index(chip: LabelledChip) -> Any:
        values = chip.reflectance(imagery.scale)[0]
        return normalised_difference(values[first], values[second])

    if method == "MNDWI > 0":
        return lambda chip: (index(chip) > 0).astype(np.int64)
    values, label = drawn_pixels(train, lambda chip: index(chip)[None], seed)
    rule = IndexThreshold.fit(values[0], label == 1, label >= 0, above=above)
    return lambda chip: rule.predict(index(chip)).astype(np.int64)


def confusion(found: Any, chip: LabelledChip, classes: int) -> list[list[int]]:
    """Pixels by true class (rows) and class found (columns)."""
    here = (chip.label != IGNORE) & chip.valid.any(axis=0)
    pairs = chip.label[here] * classes + np.asarray(found)[here]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes).tolist()


def run(trial: Trial, root: Path, head: str = "fused") -> dict[str, Any]:
    """One training and its test."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    imagery = worldcereal(root, 3) if trial.data == "worldcereal" else READERS[trial.data](root)
    whole = parts(imagery, trial.fold)
    part = Parts(share_of(imagery, whole.train, trial.share, trial.seed), whole.val, whole.test)
    curve = None
    if trial.method in AS_PRETRAINED:
        task = as_pretrained(of_fold(trial.weights, trial.fold) or "", AS_PRETRAINED[trial.method])
        found = [classes == WATER for classes in classes_of(task, part.test)]
    elif trial.method in (*NETWORKS, *ON_REQUEST):
        steps = int(trial.settings.split()[0])
        weights = of_fold(trial.weights, trial.fold) or ""
        found, curve = network(trial.method, imagery, part, trial.seed, steps, weights, head)
    else:
        predict = pixel_method(trial.method, imagery, part.train, trial.seed)
        found = [predict(chip) for chip in part.test]
    chips = [
        {"chip": chip.name, "place": chip.place, "good": chip.good,
         "confusion": confusion(classes, chip, len(imagery.classes))}
        for chip, classes in zip(part.test, found, strict=True)
    ]  # fmt: skip
    matrix = torch.tensor([chip["confusion"] for chip in chips if chip["good"]]).sum(dim=0).double()
    every = {key: float(value) for key, value in figures(matrix, imagery.classes).items()}
    name = FIGURE.get(trial.data, "mIoU")
    labelled = sum(int((chip.label != IGNORE).sum()) for chip in part.train)
    return {"figures": {name: every[name], "mAcc": every["mAcc"]}, "chips": chips, "curve": curve, "pixels": labelled}


def trials(data: str, seeds: int, weights: str | None, digest: Callable[[str, bool], str], steps: int | None, head: str,
           shares: Sequence[float] = SHARES, methods: Sequence[str] = ()) -> list[Trial]:  # fmt: skip
    """All trials on some data.

    Args:
        data: one of `DATA`, or `burn`.
        seeds: number of seeds.
        weights: of the pretrained model, or one for each fold (`{fold}`); None for all methods but that.
        digest: of a source's weights, or of its shape alone (False), so that others are other trials.
        steps: of each network; None for those of `STEPS`.
        head: of the pretrained and the random model.
        shares: of the labels.
        methods: those of `methods_of` that are wanted; all by default.

    """
    found, steps = [], steps or STEPS.get(data, 200)
    for method in methods or methods_of(data):
        pretrained = method == "pretrained" or method in AS_PRETRAINED
        if method not in (*methods_of(data), *ON_REQUEST) or (pretrained and weights is None):
            continue
        networks = method in (*NETWORKS, *ON_REQUEST, *AS_PRETRAINED)
        shape = (weights or SHAPE) if networks else ""
        settings = {"U-Net": f"{steps} steps", "branch alone": f"{steps} steps"}.get(method, f"{steps} steps {head}")
        unlabelled = method in (*FIXED, *AS_PRETRAINED)
        if method in AS_PRETRAINED:
            settings = AS_PRETRAINED[method]
        for share in shares if not unlabelled else shares[-1:]:
            for fold in range(5) if data == "water" else (-1,):
                known = ""
                if networks and method != "U-Net":
                    known = digest(of_fold(shape, fold) or "", pretrained)
                found += [
                    Trial("fine-tuned", data, method, share, seed, fold, shape, known, settings * bool(shape))
                    for seed in range(seeds if not unlabelled else 1)
                ]
    return found
