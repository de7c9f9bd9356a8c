"""What makes long runs quick and keeps them small; for commands only, since it changes the whole process for good."""

from __future__ import annotations

import ctypes
import sys

_MALLOC = {
    "M_MMAP_THRESHOLD": (-3, 32 * 1024**2),
    "M_TRIM_THRESHOLD": (-1, 128 * 1024**2),
    "M_TOP_PAD": (-2, 128 * 1024**2),  # more than a thread's 64 MB: these are kept, and what nobody touches takes none
    "M_ARENA_MAX": (-8, 1),
}
"""glibc's numbers of these, and their values here."""


def keep_windows() -> None:
    """Lets glibc's malloc keep what was freed; nothing on other systems.

    A window's arrays are allocated and freed thousands of times. By default malloc fetches most of them from the system
    each time, page by page, which takes a third of a heavy head's time, and makes an arena of its own for every thread.
    What was freed before goes back to the system.
    """
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt") and hasattr(library, "malloc_trim"):  # glibc has them, musl has not
            library.malloc_trim(0)
            for number, value in _MALLOC.values():
                library.mallopt(number, value)
