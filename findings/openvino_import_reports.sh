#!/usr/bin/env bash
# What `import openvino` does besides importing.
#
# Guess: nothing; what reports the use of a tool asks first, or begins when something is converted.
# Seen: with the package as pip installs it (its requirement openvino-telemetry comes along) the import itself starts a
# process that posts an event to google-analytics.com, waits up to 3 s for it, and writes a number for the user to
# ~/intel, without a question (not where a CI is recognised). Where openvino-telemetry cannot be imported it takes a stub.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "openvino==2026.4.1" "openvino-telemetry==2025.2.0" "numpy==2.3.5"
cat > "$folder/import.py" <<'PY'
import os
import sys
import time
import urllib.request

seen = os.path.join(os.environ["HOME"], "requests")
open(seen, "w").close()


def noted(request, *args, **kwargs):  # instead of the network; the process that is started inherits it
    with open(seen, "a") as file:
        file.write(request.full_url.partition("?")[0] + " " + request.data.decode() + "\n")


urllib.request.urlopen = noted
if sys.argv[1] == "without":
    sys.modules["openvino_telemetry"] = None
import openvino

time.sleep(5)  # it is sent meanwhile, by a thread that starts a process
requests = open(seen).read()
numbered = os.path.exists(os.path.join(os.environ["HOME"], "intel", "openvino_ga_cid"))
print("openvino", openvino.__version__.partition("-")[0], sys.argv[1], "openvino_telemetry:", requests.count("\n"), "requests")
print("  the user has a number in ~/intel:", numbered)
print("  " + requests[:240].strip())
assert ("google-analytics.com" in requests, numbered) == ((sys.argv[1] == "with",) * 2)
PY
for how in with without; do
    mkdir "$folder/$how"
    env -i HOME="$folder/$how" PATH="$PATH" "$folder/venv/bin/python" "$folder/import.py" "$how"
done
