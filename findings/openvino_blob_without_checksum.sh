#!/usr/bin/env bash
# What OpenVINO's import_model makes of an exported model in whose middle some bytes were changed.
#
# Guess: an error, as for one that is cut short: its header names version and instruction set, and there is a check.
# Seen: it is imported and run without a word, and gives other numbers. Nothing but the header and the sizes is looked at.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "openvino==2026.4.1" "numpy==2.3.5"
env -i HOME="$folder" PATH="$PATH" CI=true "$folder/venv/bin/python" - <<'PY'
import sys

sys.modules["openvino_telemetry"] = None  # it would report the import over the network
import numpy as np
import openvino as ov
from openvino import opset15 as ops

images = ops.parameter([1, 64], np.float32)
weights = np.random.default_rng(0).normal(size=(64, 4096)).astype(np.float32)
model = ov.Model([ops.matmul(images, ops.constant(weights), False, False)], [images])
core, given = ov.Core(), np.ones((1, 64), np.float32)
settings = {"INFERENCE_PRECISION_HINT": "f32"}
compiled = core.compile_model(model, "CPU", settings)
right = compiled([given])[0].copy()
blob = compiled.export_model().getvalue()
print("openvino", ov.__version__.partition("-")[0], f"{len(blob):,} bytes")
try:
    core.import_model(blob[: len(blob) // 2], "CPU", settings)
    raise SystemExit("half a model was imported")
except RuntimeError as error:
    print("half of it:", str(error).splitlines()[-1][:100])
half = len(blob) // 2
changed = blob[:half] + b"\x3f" * 4096 + blob[half + 4096 :]
wrong = core.import_model(changed, "CPU", settings)([given])[0]
print("4,096 bytes changed: imported; largest difference of a result", float(np.abs(wrong - right).max()))
assert np.abs(wrong - right).max() > 0.1
PY
