"""Files that are sound, real or changed at random: each ends in a right result or in an error of ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs limits and /proc of Linux")
pytest.importorskip("pygeoapi", reason="needs pygeoapi: pip install 'prithvi[serve]'")

from tests.fuzz.campaign import MEMORY_LIMIT, run  # noqa: E402
from tests.fuzz.kinds import KINDS  # noqa: E402
from tests.fuzz.mutations import damaged, edits  # noqa: E402


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_every_case_ends_in_a_result_or_an_error_of_ours(kind: str, tmp_path: Path) -> None:
    found = run(kind, 0, KINDS[kind].cases, tmp_path)
    assert found.faults == []
    assert found.cases == KINDS[kind].cases
    assert found.endings["right"] > 0.05 * found.cases  # what is changed is still looked into
    assert found.memory < MEMORY_LIMIT


def test_there_are_enough_cases_and_a_number_gives_its_case_again() -> None:
    assert sum(kind.cases for kind in KINDS.values()) >= 5000
    import random

    data = bytes(range(256)) * 8
    assert damaged(data, random.Random(7)) == damaged(data, random.Random(7)) != data
    plain = {"a": [1, 2, {"b": "c"}], "d": None}
    assert repr(edits(plain, 3, 10)) == repr(edits(plain, 3, 10))
    assert sum(repr(made) != repr(plain) for made in edits(plain, 3, 10)) > 5
