#!/usr/bin/env bash
# Whether torchgeo's datasets can be imported after `pip install torchgeo` with today's packages.
#
# Guess: yes; what a package imports at its top is among its requirements.
# Seen: `from torchgeo.datasets import RasterDataset` ends with "No module named 'requests'". torchgeo 0.8.1 imports requests (its
# module of OpenStreetMap) and asks for it in the extra "datasets" alone; it came along with lightly up to 1.5, and
# lightly 1.6.0 and huggingface_hub 2 ask for it no more. `pip install requests` mends it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torchgeo==0.8.1" "lightly==1.6.0" "huggingface_hub==2.4.0" "timm==1.0.31"
cd "$folder"
said() {
    "$folder/venv/bin/python" -W ignore -c "
from importlib.metadata import requires, version
print('torchgeo', version('torchgeo'), 'lightly', version('lightly'), 'huggingface_hub', version('huggingface_hub'))
asked = [one for one in requires('torchgeo') if one.startswith('requests')]
assert all('extra' in one for one in asked), 'changed: torchgeo asks for requests'
from torchgeo.datasets import RasterDataset
print('torchgeo.datasets is imported')" 2>&1 || true
}
before=$(said)
echo "$before"
grep -q "No module named 'requests'" <<<"$before" || { echo "changed: requests is there, or not needed"; exit 1; }
"$folder/venv/bin/pip" install -q "requests==2.34.2"
after=$(said)
echo "with requests: $after"
grep -q "torchgeo.datasets is imported" <<<"$after" || { echo "changed: something else is missing"; exit 1; }
