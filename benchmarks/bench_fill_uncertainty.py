"""Is the uncertainty of filled pixels honest? Real series under the shapes of real clouds.

    python benchmarks/bench_fill_uncertainty.py --data FOLDER [--out FILE.json]

FOLDER holds worldcereal_training. Cases are those of `bench_gap_filling.py`: the middle one of three clear dates hidden
in part, test cases and a second site; `whole` hides all of the middle date, once a triplet. Validation cases are those
of the first site before and after the test dates and their guard. How the estimate is made was chosen on these: gaps
laid over neighbouring dates, over the date itself mirrored, and both in several ways; mirrored twice was chosen, and no
factor is fitted.

Printed are, over all hidden pixels and bands, the shares of absolute errors within one and two standard errors (.68 and
.95 of a normal distribution), over the cases the median of real by stated RMSE, and Spearman's rank correlation
of the two, of cases (bands together) and of the bands of all cases.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from prithvi.mapping.fillers import Fill, fill_window, with_model
from prithvi.mapping.methods import GAP_METHODS, days_of

sys.path.insert(0, str(Path(__file__).parent))
from bench_gap_filling import MODEL
from gap_cases import Case, is_development, is_test, sites

SCALE = np.float32(1e4)


def by_filling(image: Any, known: Any, times: Any, where: tuple[float, float]) -> Any:
    """`filling` on reflectance x 10,000."""
    return (SCALE * GAP_METHODS["filling"](image / SCALE, known, days_of(times))).astype(np.float32)


def whole(cases: list[Case]) -> list[Case]:
    """Each triplet of dates once, all of its middle date hidden."""
    found = {}
    for case in cases:
        known, hidden = case.known.copy(), case.known[0] & case.known[2] & (case.image[:, 1] > 0).all(axis=0)
        known[1] = False
        found[tuple(case.dates)] = dataclasses.replace(case, known=known, hidden=hidden)
    return list(found.values())


def measure(fill: Fill, cases: list[Case]) -> dict[str, float]:
    """The figures of the docstring, over some cases."""
    one = two = pixels = 0
    real, stated = [], []
    for case in cases:
        times = np.array([(day.year, day.timetuple().tm_yday - 1) for day in case.dates], np.float32)
        truth = case.image * SCALE
        image = np.where(case.known, truth, np.float32(np.nan))
        found = fill_window(fill, image, case.known, times, case.place)
        error = np.abs(found.image - truth)[:, 1][:, case.hidden]
        deviation = found.uncertainty[:, 1][:, case.hidden]
        one, two = one + int((error <= deviation).sum()), two + int((error <= 2 * deviation).sum())
        pixels += error.size
        real.append((error.astype(np.float64) ** 2).mean(axis=1))
        stated.append((deviation.astype(np.float64) ** 2).mean(axis=1))
    bands = np.sqrt(np.stack([real, stated]))
    means = np.sqrt(np.stack([real, stated]).mean(axis=2))
    return {
        "cases": len(cases), "within 1": round(one / pixels, 3), "within 2": round(two / pixels, 3),
        "real by stated": round(float(np.median(means[0] / means[1])), 2),
        "rank": round(float(spearmanr(*means)[0]), 2),
        "rank of bands": round(float(spearmanr(*bands.reshape(2, -1))[0]), 2),
    }  # fmt: skip


def main() -> None:
    """Measures the two methods on all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    first, second = sites(options.data / "worldcereal_training")
    test = [case for case in first if is_test(case)]
    parts = {
        "validation": [case for case in first if is_development(case)], "test": test, "second site": second,
        "test, whole": whole(test), "second site, whole": whole(second),
    }  # fmt: skip
    print(f"{'':38} {'cases':>6} {'in 1 s':>7} {'in 2 s':>7} {'real/stated':>12} {'rank':>6} {'rank of bands':>14}")
    results: dict[str, Any] = {}
    for name, fill in {"filling": by_filling, MODEL: with_model(MODEL, "cpu")}.items():
        for part, cases in parts.items():
            found = measure(fill, cases)
            results.setdefault(name, {})[part] = found
            cells = zip(found.values(), (6, 7, 7, 12, 6, 14), strict=True)
            told = " ".join(f"{value:>{width}}" for value, width in cells)
            print(f"{f'{name}, {part}':38.38} {told}", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
