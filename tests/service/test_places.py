from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from prithvi.guard import Guard
from prithvi.service.places import Places, addresses
from prithvi.service.settings import RefusedError
from tests.http_files import Served, serve_folder


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "scenes" / "granule").mkdir(parents=True)
    (tmp_path / "scenes" / "a.tif").write_text("")
    (tmp_path / "scenes" / "granule" / "b.tif").write_text("")
    (tmp_path / "secret.tif").write_text("")
    return Places([(tmp_path / "scenes").resolve()], ["127.0.0.1", "*.example.org"], ["127.0.0.1"])


def test_paths_within_a_folder_are_taken_in_every_form(places: Places, tmp_path: Path) -> None:
    path = str((tmp_path / "scenes" / "a.tif").resolve())
    for form in ("a.tif", "./granule/../a.tif", path, f"file://{path}", f"file://localhost{path}"):
        assert places.allowed(form) == path
    assert places.allowed("granule").endswith("/scenes/granule")


@pytest.mark.parametrize(
    "form",
    ["../secret.tif", "{out}", "file://{out}", "file:///etc/passwd", "/etc/passwd", "granule/../../secret.tif",
     "file://host/a.tif", "/vsizip/a.zip", "/vsicurl/http://127.0.0.1/a.tif", "s3://bucket/a.tif", "ftp://h/a.tif",
     "GTIFF_DIR:1:a.tif", "vrt:///etc/passwd", "a.tif\n", "a" * 3000 + ".tif"],
)  # fmt: skip
def test_other_paths_are_refused(places: Places, tmp_path: Path, form: str) -> None:
    with pytest.raises(RefusedError) as refused:
        places.allowed(form.format(out=tmp_path / "secret.tif"))
    assert str(tmp_path) not in str(refused.value)


def test_links_out_of_the_folder_are_refused_and_those_within_are_not(places: Places, tmp_path: Path) -> None:
    (tmp_path / "scenes" / "out.tif").symlink_to(tmp_path / "secret.tif")
    (tmp_path / "scenes" / "in.tif").symlink_to(tmp_path / "scenes" / "a.tif")
    (tmp_path / "scenes" / "way").symlink_to(tmp_path)
    assert places.allowed("in.tif").endswith("/a.tif")
    for form in ("out.tif", "way/secret.tif", "way"):
        with pytest.raises(RefusedError, match="not in a folder") as refused:
            places.allowed(form)
        assert refused.value.status == 403
    (tmp_path / "scenes" / "granule" / "c.tif").symlink_to(tmp_path / "secret.tif")
    with pytest.raises(RefusedError, match="holds a link out of its folder"):
        places.allowed("granule")


def test_a_missing_file_is_told_apart(places: Places) -> None:
    with pytest.raises(RefusedError, match=r"there is no file b\.tif in the folders") as refused:
        places.allowed("b.tif")
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("https://other.org/a.tif", "not among the hosts"),
        ("http://localhost/a.tif", "not among the hosts"),
        ("https://example.org.evil.net/a.tif", "not among the hosts"),
        ("https://127.0.0.1@other.org/a.tif", "not among the hosts"),
        ("https://name:word@127.0.0.1/a.tif", "a name or password"),
    ],
)
def test_other_hosts_are_refused(places: Places, address: str, said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        places.allowed(address)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1",
     "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "fd00::1", "fe80::1", "224.0.0.1",
     "2130706433", "0x7f.1"],
)  # fmt: skip
def test_private_addresses_are_refused_in_every_writing(host: str) -> None:
    """The last two are how inet_aton writes 127.0.0.1; names are resolved, as localhost is."""
    with pytest.raises(RefusedError, match="has a private address") as refused:
        addresses(host, 443, private=False)
    assert refused.value.status == 403


def test_public_addresses_and_allowed_private_ones_are_taken(places: Places) -> None:
    assert addresses("93.184.215.14", 443, private=False) == ["93.184.215.14"]
    assert places.allowed("http://127.0.0.1:8000/a.tif") == "http://127.0.0.1:8000/a.tif"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.txt").write_text("words")
    with serve_folder(tmp_path / "web") as served:
        yield served


def through(guard: Guard, address: str) -> str:
    proxy = urllib.request.ProxyHandler(
        {"http": f"http://127.0.0.1:{guard.port}", "https": f"http://127.0.0.1:{guard.port}"}
    )
    with urllib.request.build_opener(proxy).open(address, timeout=10) as answer:
        return answer.read().decode()


def test_the_guard_lets_through_what_is_allowed_at_the_same_time(server: Served) -> None:
    guard = Guard(Places([], ["127.0.0.1"], ["127.0.0.1"]).reach)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(through(guard, f"{server.url}/a.txt"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["words"] * 8
    assert guard.taken() == []


def test_a_client_that_keeps_its_connections_is_told_that_this_one_ends(server: Served) -> None:
    """The server does not say so; a client that is not told loses its next request now and then."""
    guard = Guard(Places([], ["127.0.0.1"], ["127.0.0.1"]).reach)
    requests = pytest.importorskip("requests", reason="requests comes with the extra 'search'")
    with requests.Session() as session:
        session.proxies = {"http": f"http://127.0.0.1:{guard.port}"}
        for _ in range(20):
            answer = session.get(f"{server.url}/a.txt", timeout=10)
            assert (answer.text, answer.headers["Connection"]) == ("words", "close")
    assert len(server.requests) == 20


def test_the_guard_refuses_a_redirect_to_another_host(server: Served) -> None:
    guard = Guard(Places([], ["127.0.0.1"], ["127.0.0.1"]).reach)
    server.redirect = f"http://localhost:{server.url.rpartition(':')[2]}/b.txt"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        through(guard, f"{server.url}/a.txt")
    assert guard.taken() == ["localhost is not among the hosts that this service reads from."]


def test_the_guard_refuses_a_name_with_a_private_address_and_other_ports(server: Served) -> None:
    guard = Guard(Places([], ["*"], []).reach)
    port = server.url.rpartition(":")[2]
    for address, said in (
        (f"http://localhost:{port}/a.txt", "on port"),
        ("http://localhost/a.txt", "private address"),
        ("https://localhost/a.txt", "private address"),
    ):
        with pytest.raises(OSError, match="403"):
            through(guard, address)
        assert said in guard.taken()[0]
    assert server.requests == []


def test_the_guard_is_asked_by_gdal(server: Served, tmp_path: Path) -> None:
    """GDAL's curl takes the proxy from the variables that a worker has."""
    import subprocess
    import sys

    code = """
import os, sys
from prithvi.guard import Guard
from prithvi.service.places import Places
guard = Guard(Places([], ["127.0.0.1"], []).reach)
os.environ.update(guard.environment())
import rasterio
for address in sys.argv[1:]:
    try:
        rasterio.open("/vsicurl/" + address)
    except rasterio.errors.RasterioError:
        print(guard.taken())
"""
    addresses = [f"{server.url}/a.tif", "http://169.254.169.254/a.tif", "https://10.0.0.1/a.tif"]
    environment = {**os.environ, "GDAL_HTTP_MAX_RETRY": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, *addresses], capture_output=True, text=True, env=environment, check=True
    )
    told = done.stdout.splitlines()
    assert len(told) == 3
    assert "127.0.0.1 is asked on port" in told[0]
    assert "169.254.169.254 is not among the hosts" in told[1]
    assert "10.0.0.1 is not among the hosts" in told[2]
    assert server.requests == []
