#!/usr/bin/env bash
# pygeoapi 0.21.0: a Prefer header is taken as one word, and `response: document` wraps the results in a list.
#
# Guess: `Prefer: respond-async, wait=10` asks for a job, as RFC 7240 lets a header hold several preferences, and OGC API -
# Processes refers to it; and the results document of a process with the output `echo` is {"echo": ...}.
# Seen: `respond-async` alone makes a job (201), with a second preference the answer is synchronous (200); and the document
# is {"outputs": [{"id": "echo", "value": ...}]}, whose one member is no output of the process.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pygeoapi==0.21.0
cd "$folder"
cat > config.yml <<YAML
server:
  bind: {host: 127.0.0.1, port: 5000}
  url: http://127.0.0.1:5000
  mimetype: application/json; charset=UTF-8
  encoding: utf-8
  languages: [en-US]
  limits: {default_items: 10, max_items: 100}
  map: {url: "", attribution: ""}
  manager: {name: TinyDB, connection: $folder/jobs.db, output_dir: $folder}
logging: {level: ERROR}
metadata:
  identification: {title: t, description: d, keywords: [k], keywords_type: theme, terms_of_service: "", url: "http://127.0.0.1"}
  license: {name: n, url: "http://127.0.0.1"}
  provider: {name: n, url: "http://127.0.0.1"}
  contact: {name: n}
resources:
  hello-world: {type: process, processor: {name: HelloWorld}}
YAML
export PYGEOAPI_CONFIG=$folder/config.yml PYGEOAPI_OPENAPI=$folder/openapi.yml
"$folder/venv/bin/pygeoapi" openapi generate config.yml --output-file openapi.yml > log.txt 2>&1 || { tail -5 log.txt; exit 1; }
cat > ask.py <<'PYTHON'
from importlib.metadata import version

from pygeoapi.flask_app import APP

client, path, plain = APP.test_client(), "/processes/hello-world/execution", {"inputs": {"name": "World"}}
one = client.post(path, json=plain, headers={"Prefer": "respond-async"}).status_code
two = client.post(path, json=plain, headers={"Prefer": "respond-async, wait=10"}).status_code
document = client.post(path, json={**plain, "response": "document"}).get_json(force=True)
print("pygeoapi", version("pygeoapi"))
print("guess: 201 and 201; a document with the member 'echo'")
print(f"seen:  {one} and {two}; {document}")
assert (one, two) == (201, 200)
assert document == {"outputs": [{"id": "echo", "value": "Hello World!"}]}
PYTHON
"$folder/venv/bin/python" ask.py 2> log.txt || { tail -5 log.txt; exit 1; }
