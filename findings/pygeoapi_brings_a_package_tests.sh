#!/usr/bin/env bash
# pygeoapi 0.21.0: its wheel installs a top-level package `tests`, which hides a project's own folder of that name.
#
# Guess: the folder `tests` of the project comes first, as the project stands before site-packages on sys.path.
# Seen: without an `__init__.py` the folder is a namespace package, and a package that is whole counts more wherever it stands
# on the path: `import tests.helper` worked before pygeoapi was installed and fails after it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
mkdir -p "$folder/project/tests"
echo 'words = "of the project"' > "$folder/project/tests/helper.py"
cd "$folder/project"
code='import tests.helper; print(tests.helper.words)'
before=$("$folder/venv/bin/python" -c "$code" 2>&1 | tail -1)
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps pygeoapi==0.21.0
after=$("$folder/venv/bin/python" -c "$code" 2>&1 | tail -1 || true)
touch tests/__init__.py
own=$("$folder/venv/bin/python" -c "$code" 2>&1 | tail -1)
"$folder/venv/bin/pip" list --disable-pip-version-check 2> /dev/null | grep pygeoapi
echo "guess: 'of the project' before and after"
echo "seen:  '$before' before, '$after' after, '$own' with an __init__.py"
test "$before" = "of the project"
test "$after" = "ModuleNotFoundError: No module named 'tests.helper'"
test "$own" = "of the project"
