#!/usr/bin/env bash
# cwltool 3.3.20260925135507: `python -m cwltool` ends with status 0 where a tool fails; the command `cwltool` with 1.
#
# Guess: both are the same program, so that a pipeline may use either and look at its status.
# Seen: both say "permanentFail"; the module drops what its main function returns.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check cwltool==3.3.20260925135507
cd "$folder"
printf '%s\n' 'cwlVersion: v1.2' 'class: CommandLineTool' 'baseCommand: "false"' 'inputs: []' 'outputs: []' > fails.cwl
command=0; "$folder/venv/bin/cwltool" --no-container fails.cwl > /dev/null 2> command.txt || command=$?
module=0; "$folder/venv/bin/python" -m cwltool --no-container fails.cwl > /dev/null 2> module.txt || module=$?
"$folder/venv/bin/cwltool" --version | grep -o '3[.][0-9.]*'
echo "guess: status 1 of both"
echo "seen:  status $command of the command, $module of the module"
grep -q permanentFail command.txt
grep -q permanentFail module.txt
test "$command" = 1
test "$module" = 0
