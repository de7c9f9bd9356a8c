#!/usr/bin/env bash
# rasterio 1.4.4 (GDAL 3.10.3): which headers GDAL_HTTP_HEADERS sends.
#
# One would guess: "X-First: 1, X-Second: 2" sends two headers, as "X-First: 1,X-Second: 2" does, and values reach the server
# as they are written.
# Seen: after a comma and a space the second header becomes a further line of the first one's value (a line that begins with
# a space, the folding that HTTP gave up), so that the server sees no X-Second, and a spoilt X-First; nothing says so.
# Quotes vanish from values, too: Token="a" arrives as Token=a. With line ends (\r\n) in place of commas both arrive as written.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "rasterio==1.4.4" "numpy==2.2.6"
env -u http_proxy -u HTTP_PROXY -u all_proxy -u ALL_PROXY "$work/venv/bin/python" - <<'PYTHON'
import http.server
import threading

import rasterio
from rasterio.errors import RasterioError

seen = {}


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        seen[self.path] = {name: value for name, value in self.headers.items() if name.startswith("X-")}
        self.send_error(404)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)


def sent(said):
    name = f"/{len(seen)}.tif"
    with rasterio.Env(GDAL_HTTP_HEADERS=said, GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        try:
            rasterio.open(f"/vsicurl/http://127.0.0.1:{server.server_port}{name}")
        except RasterioError:
            pass
    print(repr(said), "->", seen[name])
    return seen[name]


both = {"X-First": "1", "X-Second": "2"}
assert sent("X-First: 1,X-Second: 2") == both
assert sent("X-First: 1\r\nX-Second: 2") == both
spoilt = sent("X-First: 1, X-Second: 2")
assert "X-Second" not in spoilt and "X-Second: 2" in spoilt["X-First"], "two headers: this has changed"
assert sent('X-First: Token="a"') == {"X-First": "Token=a"}, "quotes stay: this has changed"
assert sent('X-First: Token="a"\r\nX-Second: 2') == {"X-First": 'Token="a"', "X-Second": "2"}
PYTHON
