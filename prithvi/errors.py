"""All exceptions that prithvi raises deliberately; messages say what was found, where, and what to do.

The command line prints the message and exits with status 2. In Python, `PrithviError` catches all of them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager


def without_secrets(text: str) -> str:
    """A text whose addresses lack what may be secret: name and password, and all behind the question mark."""
    text = re.sub(r"(?<=://)[^/\s@'\"]*@", "", text)
    return re.sub(r"(\w://[^\s?'\"]*)\?[^\s,;)'\"]*", r"\1", text)


def _cut(text: str) -> str:
    """A text whose words of more than 500 characters, as a damaged file may hold them, lack their middle."""
    return re.sub(r"\S{501,}", lambda word: f"{word[0][:200]}...{word[0][-200:]}", text)


class PrithviError(Exception):
    """Base class of all errors that a user can fix. Its message holds no secret of an address and no endless word."""

    def __init__(self, *parts: object) -> None:
        super().__init__(*(_cut(without_secrets(part)) if isinstance(part, str) else part for part in parts))


class BandError(PrithviError, ValueError):
    """Bands are missing, unnamed, misspelt or ambiguous."""


class ScaleError(PrithviError, ValueError):
    """Pixel values do not have the magnitude of the model's contract."""


class SceneError(PrithviError, ValueError):
    """A raster cannot be used as a scene: damaged, not georeferenced, too small, empty or on a different grid."""


class OutputError(PrithviError, OSError):
    """A result cannot be written."""


class ModelError(PrithviError, ValueError):
    """A model cannot do what was requested: an unknown name, a size that is not a multiple of the patch size."""


class CheckpointError(PrithviError, ValueError):
    """A weights file does not fit the model completely, is damaged, or contains code."""


class HubError(PrithviError, OSError):
    """A file could not be downloaded from or uploaded to the Hugging Face hub."""


class AddressError(PrithviError, ValueError):
    """An address is not asked: it is of this machine or network and nobody allowed it, or it has none."""


class DatasetError(PrithviError, ValueError):
    """A dataset folder, split list or label does not follow its layout."""


class ConfigError(PrithviError, ValueError):
    """A configuration file or option does not exist or is invalid."""


class TrainingError(PrithviError, RuntimeError):
    """Training cannot continue, for example because the loss is NaN."""


class InapplicableError(ConfigError):
    """A baseline that cannot be made of these data, such as an index of thirteen classes."""


MALFORMED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What code meets in a document whose entries are of other kinds than its format says."""


@contextmanager
def states_nonsense(where: str, error: type[PrithviError]) -> Iterator[None]:
    """For a block that takes a document apart: raises `error` where an entry is of another kind than it should be.

    Args:
        where: how to call the document.
        error: what is raised, in one line; errors of ours in the block stay what they are.

    """
    try:
        yield
    except PrithviError:
        raise
    except MALFORMED as found:
        raise error(f"{where} states something that cannot be read ({first_line(found)}).") from found


class MissingExtraError(PrithviError, ImportError):
    """An optional feature needs packages that are not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs packages that are not installed: pip install 'prithvi[{extra}]'.")


@contextmanager
def needs(what: str, extra: str) -> Iterator[None]:
    """For a block of imports: raises MissingExtraError (`what` needs them) where one of them is not installed."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(what, extra) from error


def nearest(name: str, options: Iterable[str]) -> str:
    """The end of an error message: the options most similar to `name`, or all options if none is similar."""
    known = sorted(options)
    lowered = {option.lower(): option for option in known}
    # Half of a long word's letters in another one mean nothing; of two letters one is much.
    cutoff = 0.6 if len(name) > 3 else 0.5
    close = difflib.get_close_matches(name.lower(), list(lowered), n=3, cutoff=cutoff)
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


def first_line(error: object) -> str:
    """The first line of another library's message, short enough for one of ours, or its class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160].rstrip(".")


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 date, 2 dates, 1,234 chips."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
