"""A cache of the features of a frozen encoder, in Zarr."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import lightning as L
import numpy as np
import torch
import zarr
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

NOT_KEPT = ("image", "clear", "temporal_coords", "location_coords")
"""What a sample with features has no longer."""
_TENSOR = r"\w+:[a-z]+\d*:(\d+(x\d+)*)?"
_LINE = re.compile(rf"\d{{1,9}} {_TENSOR}(;{_TENSOR})*")
"""A line of the journal: a sample's index, and its tensors."""


class Frozen(Protocol):
    """A task whose encoder is frozen; `prithvi.tasks.FineTuningTask` is one."""

    device: torch.device
    training: bool

    def features_name(self) -> str:
        """A digest of everything besides the images that features depend on; raises if they are not constant."""

    def encode(self, batch: Mapping[str, Any]) -> list[Tensor]:
        """Features of all windows of a batch of images, a tensor per window."""

    def eval(self) -> Any:
        """Sets evaluation mode."""

    def train(self, mode: bool = True) -> Any:
        """Sets training mode, or evaluation mode if `mode` is false."""


class Features:
    """A folder of cached features, with one subfolder per encoder and dataset.

    Args:
        folder: the folder.
        limit: upper limit in bytes of the features that a run stores or uses.

    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit, self.used = folder, limit, 0
        self._ready: dict[str, FeatureDataset] = {}

    def of(self, dataset: Dataset[dict[str, Any]], part: str, task: Frozen, trainer: L.Trainer) -> FeatureDataset:
        """The samples of a dataset with their features, computing missing ones up to the limit.

        Raises:
            ConfigError: the task's features are not constant (trainable encoder, or augmentation).

        """
        # The folder's name is a digest of encoder, data and precision, so that features are reused by any run with the
        # same ones and by no other. Rank 0 computes; the other ranks wait, then read its journal.
        about = task.features_name() + str(cast("Any", dataset).identity) + str(trainer.precision)
        name = f"{part}-{hashlib.sha256(about.encode()).hexdigest()[:16]}"
        if name in self._ready:
            return self._ready[name]
        kept = FeatureDataset(dataset, self.folder / name)
        if trainer.is_global_zero:
            with trainer.precision_plugin.val_step_context():
                self.used += kept.fill(task, self.limit - self.used)
        trainer.strategy.barrier("features")
        kept.read_journal()
        self._ready[name] = kept
        rank_zero_info(f"features of {len(kept.forms)} of {len(kept)} {part} chips are kept in {kept.folder}")
        return kept


class FeatureDataset(Dataset[dict[str, Any]]):
    """Samples of a dataset with `features` (windows, layers*T*D, h, w) and `size` (rows, columns) instead of images.

    There is one Zarr array per name, type and shape, with one chunk per sample. Samples that are stored completely are
    listed in `journal.txt`, so that an interrupted computation is resumed.

    Args:
        dataset: the samples, without random augmentation or crops.
        folder: folder of the arrays and the journal.

    """

    def __init__(self, dataset: Dataset[dict[str, Any]], folder: Path) -> None:
        self.dataset, self.folder = dataset, folder
        self.forms: dict[int, str] = {}
        self._arrays: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(cast("Any", self.dataset))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": {}}

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index not in self.forms:
            return self.dataset[index]
        # The journal entry of a sample lists its arrays, so that samples of different sizes may share a folder.
        kept: dict[str, Any] = {}
        for entry in self.forms[index].split(";"):
            name = entry.split(":")[0]
            kept[name] = torch.from_numpy(np.asarray(self._array(entry)[index]))
        return {**kept, "id": str(index), "place": index}

    def fill(self, task: Frozen, limit: int) -> int:
        """Computes missing features in order, up to `limit` bytes; returns the bytes of all stored features."""
        # A sample's line goes to the journal only after all of its arrays are written: a sample that was interrupted
        # has no line and is written again.
        self.folder.mkdir(parents=True, exist_ok=True)
        self.read_journal()
        used = sum(_bytes_of(form) for form in self.forms.values())
        todo = [index for index in range(len(self)) if index not in self.forms]
        # With its own generator, a run that computes features draws the same random numbers later as one that has them.
        batches = DataLoader(Subset(self.dataset, todo), batch_size=1, generator=torch.Generator())
        training = task.training
        task.eval()
        with torch.inference_mode(), (self.folder / "journal.txt").open("a", encoding="utf-8") as journal:
            for index, batch in zip(todo, batches, strict=True):
                tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
                here = {**batch, **{name: value.to(task.device) for name, value in tensors.items()}}
                kept = {name: value[0] for name, value in tensors.items() if name not in (*NOT_KEPT, "place")}
                kept["features"] = torch.stack(task.encode(here), dim=1)[0].float().cpu()
                kept["size"] = torch.tensor(batch["image"].shape[-2:])
                entries = {_entry(name, value): value for name, value in kept.items()}
                form = ";".join(entries)
                # The limit is checked before writing: the remaining samples keep their images and are encoded on use.
                if used + _bytes_of(form) > limit:
                    break
                for entry, value in entries.items():
                    self._array(entry, create=True)[index] = value.numpy()
                used += _bytes_of(form)
                journal.write(f"{index} {form}\n")
                journal.flush()
        task.train(training)
        return used

    def read_journal(self) -> None:
        """Reads the list of complete samples, and removes a last line that was cut short by an interruption."""
        path = self.folder / "journal.txt"
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            path.write_text(whole, encoding="utf-8")
        for line in whole.splitlines():
            if _LINE.fullmatch(line):  # what is damaged is made again
                index, _, form = line.partition(" ")
                self.forms[int(index)] = form

    def _array(self, entry: str, create: bool = False) -> Any:
        """The array of a journal entry (name, type and shape), created if missing and `create` is set."""
        if entry not in self._arrays:
            name, dtype, shape = entry.split(":")
            sizes = _sizes(shape)
            path = self.folder / f"{name}-{shape or 'one'}"
            if create and not (path / "zarr.json").is_file():
                chunks = (1, *sizes)
                packed: Any = None if name == "features" else "auto"  # network activations do not compress
                zarr.create_array(path, shape=(len(self), *sizes), chunks=chunks, dtype=dtype, compressors=packed)
            self._arrays[entry] = zarr.open_array(path, mode="r+" if create else "r")
        return self._arrays[entry]


def _entry(name: str, value: Tensor) -> str:
    """Journal entry of one tensor of a sample: name, dtype and shape."""
    return f"{name}:{str(value.dtype).removeprefix('torch.')}:{'x'.join(map(str, value.shape))}"


def _bytes_of(form: str) -> int:
    """Uncompressed bytes of a sample, from its journal entries."""
    entries = (entry.split(":") for entry in form.split(";"))
    return sum(np.dtype(dtype).itemsize * math.prod(_sizes(shape)) for _, dtype, shape in entries)


def _sizes(shape: str) -> tuple[int, ...]:
    return tuple(int(size) for size in shape.split("x") if size)
