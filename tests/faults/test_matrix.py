"""Every verb under every fault: none of them loses anything, is silently wrong, or leaves half a result.

`python -m tests.faults.matrix` prints the same as a table, with more tries.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.faults.matrix import Harness, harness
from tests.faults.troubles import TROUBLES, ImpossibleError
from tests.faults.verbs import VERBS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs fork, signals and capabilities of Linux")
CELLS = [
    pytest.param(verb, fault, range(6 if (verb, fault) == ("map", "killed") else 2), id=f"{verb}-{fault}")
    for verb in VERBS for fault in TROUBLES if fault not in VERBS[verb].impossible
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    with harness(tmp_path_factory.mktemp("faults")) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "fault", "tries"), CELLS)
def test_nothing_is_lost(verb: str, fault: str, tries: range, run: Harness) -> None:
    pytest.importorskip("pygeoapi", reason="needs pygeoapi: pip install 'prithvi[serve]'") if verb == "serve" else None
    impossible = ""
    for number in tries:
        try:
            run.attempt(verb, fault, number)
        except ImpossibleError as error:
            impossible = str(error)
    if impossible:
        pytest.skip(impossible)


def test_what_cannot_be_says_why() -> None:
    """Every cell of the table has tries or a reason."""
    for verb in VERBS.values():
        assert set(verb.impossible) <= set(TROUBLES)
        assert all(reason.strip() for reason in verb.impossible.values())
        assert verb.remote or "connection" in verb.impossible
        assert verb.spread or verb.service or "worker" in verb.impossible
