"""What several verbs make of the words that were typed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prithvi.contract import Contract


def typed() -> str:
    """The command, as it stands in files. That a run is gone on with is no part of what makes them: they are the same
    to the byte without. Neither are signatures of addresses.
    """
    from prithvi.scenes.remote import shown

    return shlex.join(["prithvi", *(shown(word) for word in sys.argv[1:] if word != "--resume")])


def band_numbers(text: str | None, contract: Contract) -> Sequence[str] | dict[str, int] | None:
    """`2,3,4` as the contract's bands by number, `blue,green` as names in file order.

    Raises:
        BandError: another number of numbers than the model has bands.

    """
    from prithvi.errors import BandError

    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdigit() for word in words):
        return words
    if len(words) != len(contract.bands):
        raise BandError(
            f"--bands has {len(words)} numbers; this model wants {len(contract.bands)}, one each for "
            f"{', '.join(contract.bands)}."
        )
    return dict(zip(contract.bands, map(int, words), strict=True))
