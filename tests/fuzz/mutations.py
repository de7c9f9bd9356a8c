"""Changes of files: bytes at random, and documents (JSON, YAML) by their structure; a number gives its change again."""

from __future__ import annotations

import copy
import random
import struct
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

EDGES = [b"\0", b"\xff", b"\x7f\xff", b"\xff\xff\xff\xff", b"\x80\0\0\0", struct.pack("<Q", 2**63), b"\0" * 16]
STRANGE: list[Any] = [
    None, True, "", " ", "nan", "-1", "a\nb", "\0", "é" * 40, "x" * 3000, "../../etc/passwd", "file:///etc/hostname",
    "http://127.0.0.1:9/none.tif", "/vsimem/none.tif", 0, -1, 1, 2**31, 2**63, 10**30, 0.0, -0.5, 1e-320, 1e308,
    float("nan"), float("inf"), [], {}, [[]], [None], {"": None}, "2022-02-30", "1e999", [1e400] * 3,
]  # fmt: skip
"""Values that parsers stumble over."""


def damaged(data: bytes, chance: random.Random) -> bytes:
    """A file with one to four pieces of it changed, moved, doubled or gone."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        if not changed:
            break
        # Headers are short and decide the most, so many changes come to them.
        end = min(len(changed), 600) if chance.random() < 0.4 else len(changed)
        at = chance.randrange(end)
        match chance.randrange(12):
            case 0 | 1 | 8 | 9:
                changed[at] ^= 1 << chance.randrange(8)
            case 2 | 10 | 11:
                changed[at] = chance.randrange(256)
            case 3:
                edge = chance.choice(EDGES)
                changed[at : at + len(edge)] = edge
            case 4:
                del changed[at:]
            case 5:
                del changed[at : at + chance.randint(1, 64)]
            case 6:
                changed[at:at] = changed[at : at + chance.randint(1, 64)]
            case 7:
                length = chance.randint(1, 256)
                changed[at : at + length] = bytes(chance.randrange(256) for _ in range(length))
    return bytes(changed)


def _places(plain: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key or index) of every value in a document."""
    entries = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    for key, value in entries:
        yield plain, key
        yield from _places(value)


_values = st.recursive(
    st.sampled_from(STRANGE) | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def _edited(draw: st.DrawFn, document: Any) -> Any:
    """A document in which one to four values are replaced, removed, renamed, exchanged or repeated."""
    plain = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 4))):
        places = list(_places(plain))
        if not places:
            return draw(_values)
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        match draw(st.sampled_from(("replace", "replace", "remove", "rename", "exchange", "nest"))):
            case "replace":
                holder[key] = copy.deepcopy(draw(_values))
            case "remove":
                del holder[key]
            case "rename" if isinstance(holder, dict):
                holder[str(key) + draw(st.sampled_from(("s", "", "_", " ")))] = holder.pop(key)
            case "exchange":
                other, place = places[draw(st.integers(0, len(places) - 1))]
                holder[key] = copy.deepcopy(other[place])
            case _:
                holder[key] = [copy.deepcopy(holder[key])]
    return plain


def edits(document: Any, block: int, count: int) -> list[Any]:
    """`count` changed documents: the block's number gives the same ones again."""
    found: list[Any] = []

    @seed(block)
    @settings(
        max_examples=2 * count, database=None, phases=[Phase.generate], deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(_edited(document))
    def collect(plain: Any) -> None:
        found.append(plain)

    collect()
    return [found[number % len(found)] for number in range(count)]
