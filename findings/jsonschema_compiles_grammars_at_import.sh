#!/usr/bin/env bash
# How long `import jsonschema` takes (pystac's validation, nbformat and pygeoapi import it), alone and beside JupyterLab's
# packages.
#
# Guess: as long in both: formats are checked when they are asked for.
# Seen: where rfc3987-syntax is installed, as jsonschema[format-nongpl], and with it JupyterLab, wants, importing jsonschema
# 4.25.1 compiles 38 grammars of addresses with lark: more than five times the time of its import without it, seconds on a slow
# core, in every process, whether or not an address is ever checked.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cd "$folder"
timed() {
    "$folder/venv/bin/python" - <<'PY'
import subprocess
import sys
import time

seconds = []
for _ in range(4):  # the first one compiles the modules
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import jsonschema"], check=True)
    seconds.append(time.perf_counter() - begun)
begun = time.perf_counter()
subprocess.run([sys.executable, "-c", "pass"], check=True)
print(min(seconds) - (time.perf_counter() - begun))
PY
}
"$folder/venv/bin/pip" install -q "jsonschema==4.25.1"
alone=$(timed)
"$folder/venv/bin/pip" install -q "rfc3987-syntax==1.1.0" "lark==1.3.0"
beside=$(timed)
echo "jsonschema 4.25.1: $alone s alone, $beside s beside rfc3987-syntax 1.1.0"
"$folder/venv/bin/python" -c "assert float('$beside') > 5 * float('$alone'), 'the import no longer compiles grammars'"
