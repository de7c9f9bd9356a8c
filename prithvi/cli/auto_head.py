"""`prithvi fit --model.head auto`: tries trees, the fused head and the plain one; the validation part chooses."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from prithvi import __version__
from prithvi.cli.lightning import one_sentence, parsed
from prithvi.cli.settings import check, config_files, head_of, with_own_head_options, with_shipped, without_head
from prithvi.data import ChipDataModule
from prithvi.errors import ConfigError, counted
from prithvi.files import dumps, read_json, read_yaml, write_text
from prithvi.metrics.segmentation_metrics import figures
from prithvi.modelio import load, save
from prithvi.modelio.predictor import Predictor
from prithvi.tasks import SegmentationTask

AUTO = "auto"
TREES = "token_trees"
FUSED = "fused"
"""The head that joins tokens and pixels, each of these two names a key of `prithvi.models.HEADS`."""
_RESAMPLES = 1000


@dataclass(frozen=True)
class Measured:
    """A candidate's answers on the validation part, chip by chip."""

    matrices: Tensor
    """(chips, K, K) confusion matrices, true classes in rows."""
    losses: Tensor
    """(chips,)"""
    classes: list[str]

    def figure(self, name: str, counts: Tensor | None = None) -> float:
        """A figure of the chips, each taken as often as `counts` (chips,) says; default once.

        Raises:
            ConfigError: no such figure can be computed of chips that are drawn.

        """
        counts = torch.ones(len(self.losses)) if counts is None else counts
        counts = counts.double()
        if name == "loss":
            return float((self.losses * counts).nansum() / counts[~self.losses.isnan()].sum())
        known = figures(torch.einsum("n,nij->ij", counts, self.matrices), self.classes)
        if name not in known:
            raise ConfigError(
                f"head auto chooses by val/loss or a figure of the classes, such as val/mIoU; val/{name} is none."
            )
        return float(known[name])


def fit_best(arguments: Sequence[str]) -> None:
    """Fits each candidate into DEFAULT_ROOT_DIR/auto/HEAD, and writes the best one's DEFAULT_ROOT_DIR/model.

    What was compared is in DEFAULT_ROOT_DIR/choice.json and in the model's card. A candidate that is done is not fitted
    again.

    Raises:
        ConfigError: see `prithvi.cli.lightning.run`; or the task has no such candidates.

    """
    arguments = with_shipped(arguments)
    check(arguments)
    if "--ckpt_path" in arguments:
        raise ConfigError("head auto fits several models, and goes on by itself from those that are done.")
    rest = without_head(arguments)
    plain = head_of(rest)
    if plain == AUTO:  # the file says so
        rest, plain = [*rest, "--model.head", "fcn"], "fcn"
    rest = with_own_head_options(rest)
    candidates = {
        head: rest if head == plain else with_own_head_options([*rest, "--model.head", head])
        for head in dict.fromkeys((TREES, FUSED, plain))
    }
    with one_sentence():
        cli = parsed(rest, run=False)
        task, data = cli.model, cli.datamodule
        if not (isinstance(task, SegmentationTask) and task.takes_baselines and isinstance(data, ChipDataModule)):
            raise ConfigError(
                f"head auto chooses among heads that tell classes of pixels; {type(task).__name__} does not."
            )
        keeper = cli.trainer.checkpoint_callback
        monitor = (keeper.monitor if isinstance(keeper, ModelCheckpoint) else None) or "val/mIoU"
        smaller = isinstance(keeper, ModelCheckpoint) and keeper.monitor is not None and keeper.mode == "min"
        nothing = torch.zeros(1, len(task.classes), len(task.classes), dtype=torch.float64)
        Measured(nothing, torch.zeros(1), task.classes).figure(monitor.removeprefix("val/"))  # refused before any fit
        root = Path(cli.trainer.default_root_dir)
        data.setup("validate")
        found, seconds = {}, {}
        for head, options in candidates.items():
            found[head], seconds[head] = _candidate(root / AUTO / head, head, options, task, data)
    choice = choose(found, monitor.removeprefix("val/"), smaller)
    told = choice.pop("told")
    for head, entry in choice["candidates"].items():
        entry["seconds"] = seconds[head]
    best = load(root / AUTO / choice["chosen"] / "model")
    assert isinstance(best, Predictor)
    best.provenance |= {"head chosen": told[-1], "candidates": told[:-1]}
    save(best, root / "model")
    write_text(root / "choice.json", dumps({"monitor": monitor, **choice, "why": told[-1]}, indent=2) + "\n")
    chips = counted(choice["chips"], "validation chip")
    print("\n".join([f"Candidates for the head, by {monitor} on {chips}:", *told]))  # noqa: T201
    print(f"Model folder: {root / 'model'}")  # noqa: T201


def _candidate(
    folder: Path, head: str, options: list[str], task: SegmentationTask, data: ChipDataModule
) -> tuple[Measured, float]:
    """A fitted candidate's answers and the seconds that its fit took, computed or as an earlier run left them."""
    about = [options, [read_yaml(file) for file in config_files(options)], __version__]
    key = hashlib.sha256(json.dumps(about, default=str).encode()).hexdigest()
    kept = folder / "validation.json"
    plain = read_json(kept) if kept.is_file() else {}
    if plain.get("key") != key or not (folder / "model" / "config.json").is_file():
        print(f"Fitting the candidate {head}")  # noqa: T201
        begun = time.monotonic()
        parsed(["fit", *options, "--trainer.default_root_dir", str(folder)])
        seconds = round(time.monotonic() - begun, 1)
        fitted = load(folder / "model")
        assert isinstance(fitted, Predictor)
        matrices, losses = measure(task, fitted, data)
        plain = {"key": key, "seconds": seconds, "matrices": matrices.tolist(), "losses": losses.tolist()}
        write_text(kept, dumps(plain) + "\n")
    losses = torch.tensor([np.nan if loss is None else loss for loss in plain["losses"]], dtype=torch.float64)
    matrices = torch.tensor(plain["matrices"], dtype=torch.float64)
    return Measured(matrices, losses, task.classes), float(plain["seconds"])


@torch.no_grad()
def measure(task: SegmentationTask, fitted: Predictor, data: ChipDataModule) -> tuple[Tensor, Tensor]:
    """(chips, K, K) confusion matrices and (chips,) losses on the validation part; without labels a loss is NaN."""
    task.adopt(fitted)
    task.eval()
    size = len(task.classes)
    matrices, losses = [], []
    for batch in data.val_dataloader():
        scores, label = task(batch), task.label_of(batch)
        counted = task.labelled(batch)
        pairs = label[counted] * size + scores.argmax(dim=1)[counted]
        matrices.append(torch.bincount(pairs, minlength=size**2).reshape(size, size))
        losses.append(task.loss_of(batch, scores) if counted.any() else torch.tensor(torch.nan))
    return torch.stack(matrices), torch.stack(losses)


def choose(found: Mapping[str, Measured], name: str, smaller: bool = False) -> dict[str, Any]:
    """The best candidate by a figure, and whether its lead over each other is more than the draw of the chips.

    That is told by a bootstrap over chips, the same draws for all (paired): a lead whose 95 % interval holds 0 is
    within noise.

    Args:
        found: by the candidate's head.
        name: of the figure.
        smaller: whether smaller is better.

    Returns:
        `chosen`, `chips`, `candidates` (their figures and leads) and `told`, a line each and at last the reason.

    """
    sign = -1 if smaller else 1
    values = {head: measured.figure(name) for head, measured in found.items()}
    best = max(values, key=lambda head: -np.inf if np.isnan(values[head]) else sign * values[head])
    chips = len(found[best].losses)
    draws = np.random.default_rng(0).multinomial(chips, [1 / chips] * chips, size=_RESAMPLES)
    drawn = {
        head: np.array([each.figure(name, torch.from_numpy(draw)) for draw in draws]) for head, each in found.items()
    }
    entries: dict[str, dict[str, Any]] = {}
    told, alike = [], []
    for head, value in values.items():
        entries[head] = {"figure": value}
        line = f"{head}: {value:.4f}"
        if head != best:
            low, high = (float(part) for part in np.nanpercentile(sign * (drawn[best] - drawn[head]), [2.5, 97.5]))
            noise = chips < 2 or not low > 0
            entries[head] |= {"lead of the chosen": [low, high], "within noise": noise}
            line += f", {abs(values[best] - value):.4f} from the best"
            if chips > 1:
                line += f" (95 % of {low:.4f} to {high:.4f})"
            alike += [head] if noise else []
        told.append(line)
    if chips < 2:
        why = f"{best} has the best {name}; one validation chip is too small a part to tell it from the others."
    elif alike:
        why = (
            f"{best} has the best {name}, but {chips} validation chips are too small a part to tell it from "
            f"{' and '.join(alike)}: the difference is within noise."
        )
    else:
        why = f"{best} has the best {name}, by more than which of the {chips} validation chips are drawn would change."
    return {"chosen": best, "chips": chips, "candidates": entries, "told": [*told, why]}
