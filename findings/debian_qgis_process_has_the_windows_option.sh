#!/usr/bin/env bash
# What Debian 12's qgis_process answers.
#
# Guess: `qgis_process list` lists the algorithms, as QGIS documents it.
# Seen: "Command --noversioncheck not known!" and status 1, whatever is asked: Debian's script /usr/bin/qgis_process
# puts QGIS_OPTS of /etc/default/qgis, an option of the window's program, before the command. /usr/bin/qgis_process.bin,
# which it starts, works.
#
# Needs Debian 12's package qgis (seen with 3.22.16+dfsg-1), since no package index has it.
set -euo pipefail
if ! [ -x /usr/bin/qgis_process.bin ]; then
    echo "needs Debian's package qgis, with /usr/bin/qgis_process and /usr/bin/qgis_process.bin"
    exit 2
fi
wanted="qgis==3.22.16+dfsg-1"
found="qgis==$(dpkg-query -W -f '${Version}' qgis)"
if [ "$found" != "$wanted" ]; then
    echo "seen with $wanted, and this is $found"
    exit 2
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export HOME="$folder" QT_QPA_PLATFORM=offscreen QGIS_CUSTOM_CONFIG_PATH="$folder/profile" XDG_RUNTIME_DIR="$folder"
dpkg-query -W qgis
grep QGIS_OPTS /etc/default/qgis
status=0
/usr/bin/qgis_process list >"$folder/out" 2>&1 || status=$?
echo "qgis_process list: status $status, $(grep -c native: "$folder/out" || true) native algorithms, $(grep noversioncheck "$folder/out")"
/usr/bin/qgis_process.bin list >"$folder/bin" 2>/dev/null
echo "qgis_process.bin list: $(grep -c native: "$folder/bin") native algorithms"
test "$status" -ne 0
test "$(grep -c native: "$folder/bin")" -gt 100
