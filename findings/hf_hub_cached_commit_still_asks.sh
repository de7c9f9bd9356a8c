#!/usr/bin/env bash
# huggingface_hub 2.4.0: what is asked of the hub for a file that is in the cache, at a pinned commit.
#
# One would guess: nothing, as a commit cannot change (and hf_hub_download indeed makes no request for the file itself).
# Seen: each process first asks {HF_ENDPOINT}/api/agent-harnesses, a list of environment variables by which it tells whether an
# AI agent runs it, for the User-Agent of its requests, also where no request follows. The answer is kept for a day in HF_HOME;
# where there is none (a mirror without that page, no network) every process asks again and waits up to three seconds.
# HF_HUB_DISABLE_TELEMETRY=1 or HF_HUB_OFFLINE=1 leaves it out.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "huggingface_hub==2.4.0"
env -u http_proxy -u HTTP_PROXY -u all_proxy -u ALL_PROXY HF_HOME="$work/home" "$work/venv/bin/python" - <<'PYTHON'
import hashlib
import http.server
import os
import subprocess
import sys
import threading

COMMIT, CONTENT, asked = "a" * 40, b"weights", []


class Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.path)
        if not self.path.startswith("/me/model/resolve/"):
            return self.send_error(404)  # as a mirror that has repositories alone
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(CONTENT).hexdigest()}"')
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(CONTENT)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
FETCH = f"""
from huggingface_hub import __version__, hf_hub_download
print("huggingface_hub", __version__, open(hf_hub_download("me/model", "model.bin", revision="{COMMIT}")).read())
"""


def requests(**settings):
    asked.clear()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    env = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", **settings}
    subprocess.run([sys.executable, "-c", FETCH], env=env, check=True)
    print(settings, "->", asked)
    return list(asked)


assert any("resolve" in path for path in requests())  # fetched once
for _ in range(2):
    assert requests() == ["/api/agent-harnesses"], "what is cached at a commit asks something else now"
assert requests(HF_HUB_DISABLE_TELEMETRY="1") == []
assert requests(HF_HUB_OFFLINE="1") == []
PYTHON
