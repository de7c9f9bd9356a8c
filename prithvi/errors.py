"""Every exception prithvi raises on purpose: one sentence with what was found, where, and what to do.

The command line prints the sentence and exits with status 2; from Python all of them are caught by `PrithviError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


class PrithviError(Exception):
    """The root: something a user can mend, said in one sentence."""


class BandError(PrithviError, ValueError):
    """Bands are missing, unnamed, misspelt or ambiguous."""


class ScaleError(PrithviError, ValueError):
    """Pixel values have another magnitude than the model's contract says."""


class SceneError(PrithviError, ValueError):
    """A raster cannot be read as a scene: damaged, without a place, too small, empty or on another grid."""


class OutputError(PrithviError, OSError):
    """A result cannot be written where it was asked for."""


class ModelError(PrithviError, ValueError):
    """A model was asked for something it is not: an unknown name, a size its patches do not divide."""


class CheckpointError(PrithviError, ValueError):
    """A weights file does not fit its model completely, is damaged, or holds code."""


class HubError(PrithviError, OSError):
    """A file could not be fetched from the Hugging Face hub."""


class DatasetError(PrithviError, ValueError):
    """A dataset folder, split list or label does not follow its layout."""


class ConfigError(PrithviError, ValueError):
    """A configuration file or option does not exist or does not fit."""


class TrainingError(PrithviError, RuntimeError):
    """Training met something that it must not go on from, such as a loss that is not a number."""


class MissingExtraError(PrithviError, ImportError):
    """Something was asked for that needs packages which are not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs packages that are not installed: pip install 'prithvi[{extra}]'.")


def nearest(name: str, options: Iterable[str]) -> str:
    """The end of an error message: the options nearest to `name`, or all of them when none is near."""
    known = sorted(options)
    lowered = {option.lower(): option for option in known}
    close = difflib.get_close_matches(name.lower(), list(lowered), n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(lowered[match] for match in close)}?"
    return f"known are {', '.join(known)}."


def one_of(
    value: str, options: Collection[str], sentence: str = "there is no", error: type[PrithviError] = ConfigError
) -> str:
    """A value that has to be one of some options.

    Args:
        value: what was found.
        options: what there is.
        sentence: how the message begins; the value and the nearest options follow.
        error: what is raised.

    Raises:
        error: it is none of them.

    """
    if value not in options:
        raise error(f"{sentence} {value!r}: {nearest(value, options)}")
    return value
