"""All kinds of files that are fuzzed."""

from __future__ import annotations

from tests.fuzz.inputs import INPUTS
from tests.fuzz.requests import REQUESTS
from tests.fuzz.results import RESULTS

KINDS = {kind.name: kind for kind in (*INPUTS, *RESULTS, *REQUESTS)}
