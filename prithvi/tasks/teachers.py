"""Teachers by name: an encoder with its contract from any source of weights, and whether stores suit it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from prithvi.contract import Contract
from prithvi.errors import BandError, ConfigError, ModelError, one_of
from prithvi.files import sha256_once
from prithvi.modelio import load
from prithvi.modelio.loader import find, on_disk
from prithvi.modelio.model_files import WEIGHTS
from prithvi.modelio.predictor import Scorer
from prithvi.models import Encoder, PrithviMAE


@dataclass(frozen=True)
class OpenedTeacher:
    """An encoder to learn from."""

    name: str
    encoder: Encoder
    contract: Contract
    coordinates: bool
    """Whether it is given dates and places; a fine-tuned one may have been trained without."""
    sha256: str
    """Of its weights file."""


def open_teacher(name: str, architecture: str | None = None, bands: Sequence[str] | None = None) -> OpenedTeacher:
    """The encoder of a pretrained or fine-tuned model.

    Args:
        name: see `prithvi.load`.
        architecture: likewise.
        bands: those that it is given, where they are not all of its own.

    Raises:
        ModelError: a model without an encoder.
        CheckpointError, HubError: see `prithvi.load`.

    """
    found = load(name, architecture=architecture, bands=None if bands is None else list(bands))
    encoder: Encoder | None = None
    coordinates = True
    if isinstance(found, Encoder):
        encoder = found
    elif isinstance(found, PrithviMAE):
        encoder = found.encoder
    elif isinstance(found.module, Scorer):
        encoder, coordinates = found.model.encoder, found.coordinates
    if encoder is None:
        raise ModelError(f"{name} has no encoder to learn from: take a pretrained or a fine-tuned Prithvi.")
    weights = on_disk(name)
    if weights.is_dir():
        weights = weights / WEIGHTS if (weights / WEIGHTS).is_file() else find(name, architecture)[1]
    return OpenedTeacher(name, encoder, found.contract, coordinates, sha256_once(weights))


def check_data(teacher: OpenedTeacher, data: Contract, accept: Sequence[str] = ()) -> None:
    """Whether stores hold what a teacher is to see.

    Args:
        teacher: the teacher.
        data: contract of the stores.
        accept: `level` for stores of another level.

    Raises:
        BandError: they lack bands.
        ConfigError: another level.

    Warns:
        UserWarning: another pixel size than it was trained on.

    """
    for word in accept:
        one_of(word, ("level",), "accept has no")
    name, known = teacher.name, teacher.contract
    missing = [band for band in known.bands if band not in data.bands]
    if missing:
        both = ", ".join(band for band in known.bands if band in data.bands)
        way = f"or show it those that they have (model.teacher_bands: [{both}])" if both else "or take another teacher"
        raise BandError(
            f"{name} sees {', '.join(known.bands)}, and the stores lack {', '.join(missing)}: build stores with all "
            f"of them, {way}."
        )
    if data.level and known.level and data.level != known.level and "level" not in accept:
        raise ConfigError(
            f"the stores hold {data.level}, and {name} was trained on {known.level}, so that its features may mean "
            "little there: take stores of its level, or say model.accept: [level]."
        )
    if data.resolution and known.resolution and not 2 / 3 < data.resolution / known.resolution < 1.5:
        warnings.warn(
            f"the stores have pixels of {data.resolution:g} m, and {name} was trained on {known.resolution:g} m.",
            stacklevel=3,
        )
