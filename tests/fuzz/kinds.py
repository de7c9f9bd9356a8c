"""All kinds of files that are fuzzed."""

from __future__ import annotations

from tests.fuzz.inputs import INPUTS
from tests.fuzz.results import RESULTS
from tests.fuzz.service_requests import REQUESTS

KINDS = {kind.name: kind for kind in (*INPUTS, *RESULTS, *REQUESTS)}
