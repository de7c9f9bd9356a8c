#!/usr/bin/env bash
# scipy.optimize.least_squares with a robust loss, for a line whose Jacobian does not depend on its parameters, as where
# gains between two sensors are fitted: the function `jac` gives one array again and again.
#
# Guess: the array is read. The fit is that of a `jac` that makes a new array each time, in every version.
# Seen: scipy 1.13.0 to 1.15.3 scale it in place by the weights of the loss, so that the next step begins with the
# scaled one: the line is lost, success is True, and nothing warns. 1.16.3 and 1.17.1 leave it alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cd "$folder"
for version in 1.15.3 1.16.3; do
    "$folder/venv/bin/pip" install -q "scipy==$version" "numpy==2.2.6"
    "$folder/venv/bin/python" - <<'PY'
import numpy as np
import scipy
from scipy.optimize import least_squares

x = np.linspace(0, 1, 50)
y = 1 + 2 * x
y[::7] += 50  # what lies far off
design = np.stack([np.ones_like(x), x], axis=1)


def fit(jacobian):
    return least_squares(lambda line: design @ line - y, [0.0, 0.0], jacobian, loss="cauchy", f_scale=0.1)


given = design.copy()
one, new = fit(lambda line: given), fit(lambda line: design.copy())
old = scipy.__version__.startswith("1.15.")
print("scipy", scipy.__version__, "one array", one.x.round(2), one.success, "new arrays", new.x.round(2))
assert np.allclose(new.x, [1, 2], atol=0.01)
assert np.array_equal(given, design) == (not old), "whether the array is changed has changed"
assert np.allclose(one.x, [1, 2], atol=0.01) == (not old), "the fit has changed"
assert one.success
PY
done
