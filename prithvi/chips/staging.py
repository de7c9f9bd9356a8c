"""One unit of a build (a tile, a batch of files) cut into a folder of raw arrays, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from prithvi.chips.spec import Chip, Sample, StoreSpec


class Unit(Protocol):
    """Something that chips come from: independent of all other units, and small enough to travel to a worker."""

    @property
    def key(self) -> str:
        """Its name, unlike that of any other unit; the order of the names is the order of the store."""
        ...

    def chips(self, spec: StoreSpec) -> Iterator[Chip]:
        """Its chips, the same ones in the same order each time."""
        ...


def stage(unit: Unit, spec: StoreSpec, folder: Path) -> int:
    """Cuts a unit into `folder/<key>/`, unless that was done before. Gives the number of chips.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
        PrithviError: what the unit raises.

    """
    whole = folder / unit.key
    if whole.is_dir():
        return len(staged_samples(whole))
    partial = folder / f"{unit.key}.{uuid.uuid4().hex}.tmp"
    partial.mkdir(parents=True)
    try:
        samples = []
        files: dict[str, BinaryIO] = {name: (partial / name).open("wb") for name in spec.arrays()}
        try:
            for chip in unit.chips(spec):
                chip.check(spec)
                for name, file in files.items():
                    file.write(np.ascontiguousarray(getattr(chip, name)).data)
                samples.append(chip.sample.to_dict())
        finally:
            for file in files.values():
                file.close()
        with (partial / "samples.json").open("w", encoding="utf-8") as text:
            json.dump(samples, text)
            text.flush()
            os.fsync(text.fileno())
        try:
            partial.rename(whole)
        except OSError:
            if not whole.is_dir():  # another worker was given the same unit, and was first
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return len(samples)


def staged_samples(folder: Path) -> list[Sample]:
    """What is known of the chips of a staged unit."""
    plain: list[dict[str, Any]] = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    return [Sample.from_dict(entry) for entry in plain]


def staged_pixels(folder: Path, name: str, row: int, spec: StoreSpec, out: npt.NDArray[Any]) -> None:
    """Reads one chip's array into `out`."""
    array = spec.arrays()[name]
    size = int(np.prod(array.shape)) * np.dtype(array.dtype).itemsize
    with (folder / name).open("rb") as file:
        file.seek(row * size)
        if file.readinto(out.data.cast("B")) != size:
            raise OSError(f"{folder / name} is cut short")
