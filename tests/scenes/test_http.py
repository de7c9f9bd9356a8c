"""Scenes on servers: only the parts asked for, again where a server fails, and a sentence where it keeps on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import numpy as np
import pytest
import rasterio

import prithvi
from prithvi.bands import PRITHVI_BANDS
from prithvi.errors import ConfigError, SceneError
from prithvi.scenes import crop, open_scene, read, remote, transform_of
from prithvi.scenes.logins import said_headers
from tests.http_files import Served, serve_folder

Write = Callable[..., Path]
ALWAYS = 10**6


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy stands between this machine and itself."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses a tenth as long; the one test of how long it takes sets them back."""
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.05")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve_folder(tmp_path) as server:
        yield server


def pixels(count: int = 6, size: tuple[int, int] = (300, 500)) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 5000, (count, *size)).astype(np.int16)


TILED = {"tiled": True, "blockxsize": 256, "blockysize": 256}


def test_a_file_on_a_server_is_the_file(served: Served, write_tif: Write) -> None:
    data = pixels()
    data[:, 7, 9] = -9999
    path = write_tif(data, nodata=-9999, **TILED)
    scene, local = prithvi.open_scene(f"{served.url}/scene.tif"), open_scene(path)
    assert scene.chunks is not None
    np.testing.assert_array_equal(scene.values, local.values)
    np.testing.assert_array_equal(scene["x"], local["x"])
    np.testing.assert_array_equal(scene["y"], local["y"])
    assert scene.rio.crs == local.rio.crs
    assert transform_of(scene) == transform_of(local)
    assert scene.attrs == {**local.attrs, "source": f"{served.url}/scene.tif"}
    part = scene.isel(y=slice(20, 90, 3), x=[5, 1, 400])
    np.testing.assert_array_equal(part.values, local.values[:, :, 20:90:3, [5, 1, 400]])


def test_single_bands_of_a_granule_by_their_addresses(served: Served, write_tif: Write) -> None:
    data = pixels()
    names = [f"HLS.L30.T31TDF.2022100T105000.v2.0.B0{number}.tif" for number in range(2, 8)]
    for band, name in zip(data, names, strict=True):
        write_tif(band[None], name, names=None, nodata=-9999)
    scene = open_scene([f"{served.url}/{name}" for name in names])
    assert list(scene["band"].values) == list(PRITHVI_BANDS)
    assert str(scene["time"].values[0])[:10] == "2022-04-10"
    np.testing.assert_array_equal(scene.values[0], data)


def test_a_part_of_a_large_file_costs_a_part_of_its_bytes(served: Served, write_tif: Write) -> None:
    data = np.random.default_rng(0).integers(1, 5000, (6, 2048, 2048)).astype(np.int16)
    size = write_tif(data, "large.tif", **TILED).stat().st_size
    scene = open_scene(f"{served.url}/large.tif")
    assert served.sent < 0.005 * size  # a header
    for row, column in ((10, 20), (1400, 300), (1990, 2000)):
        window = crop(scene, slice(row, row + 40), slice(column, column + 40))
        np.testing.assert_array_equal(read(window)[0], data[:, row : row + 40, column : column + 40])
    assert served.sent < 0.2 * size  # three places, of four blocks at most
    assert all(wanted for _, wanted, _ in served.requests)


@pytest.mark.parametrize("trouble", ["status", "drops"])
@pytest.mark.parametrize("when", ["opened", "read"])
def test_a_server_that_fails_twice_is_asked_again(trouble: str, when: str, served: Served, write_tif: Write) -> None:
    data = pixels()
    write_tif(data, f"{trouble}_{when}.tif", **TILED)

    def fail() -> None:
        served.status = 500
        setattr(served, "failures" if trouble == "status" else "drops", 2)

    if when == "opened":
        fail()
    scene = open_scene(f"{served.url}/{trouble}_{when}.tif")
    if when == "read":
        fail()
    np.testing.assert_array_equal(read(scene)[0], data)
    assert (served.failures, served.drops) == (0, 0)


def test_an_answer_that_breaks_off_is_asked_for_again(served: Served, write_tif: Write) -> None:
    data = pixels()
    write_tif(data, "breaks.tif", **TILED)
    served.cut_after = 100
    np.testing.assert_array_equal(read(open_scene(f"{served.url}/breaks.tif"))[0], data)
    assert served.cut


def test_options_hold_in_every_thread(served: Served, write_tif: Write) -> None:
    """Reading threads know nothing of what was set where the scene was opened."""
    data = pixels(size=(1024, 1024))
    write_tif(data, "threads.tif", **TILED)
    scene = open_scene(f"{served.url}/threads.tif")
    served.status, served.failures = 503, 2
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(lambda: read(crop(scene, slice(0, 600), slice(0, 600)))).result()
    np.testing.assert_array_equal(found[0], data[:, :600, :600])
    served.failures = 2
    with dask.config.set(scheduler="threads", num_workers=4):
        np.testing.assert_array_equal(scene.values[0], data)
    assert served.failures == 0


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, r"127\.0\.0\.1:\d+ has no http\S+x\.tif \(status 404\): check the address"),
        (403, r"refuses http\S+x\.tif \(status 403\): a login or signature"),
        (401, r"\(status 401\): a login or signature"),
        (
            503,
            r"x\.tif could not be opened: 127\.0\.0\.1:\d+ answers with status 503, also when asked again; try later",
        ),
    ],
)
def test_a_server_that_keeps_refusing_is_one_sentence(
    status: int, message: str, served: Served, write_tif: Write
) -> None:
    data = pixels()
    write_tif(data, "x.tif")
    served.status, served.failures = status, ALWAYS
    with pytest.raises(SceneError, match=message):
        open_scene(f"{served.url}/x.tif")
    served.failures = 0
    np.testing.assert_array_equal(open_scene(f"{served.url}/x.tif").values[0], data)  # no failure is remembered


def test_a_server_that_fails_while_pixels_are_read(served: Served, write_tif: Write) -> None:
    data = pixels()
    write_tif(data, "x.tif", **TILED)
    scene = open_scene(f"{served.url}/x.tif")
    served.failures = ALWAYS
    with pytest.raises(SceneError, match=r"x\.tif could not be (read|opened): .* answers with status 503"):
        read(scene)
    served.failures, served.drops = 0, ALWAYS
    with pytest.raises(SceneError, match=r"x\.tif could not be (read|opened): .* does not answer or breaks off"):
        read(scene)
    served.drops = 0
    np.testing.assert_array_equal(read(scene)[0], data)


@pytest.mark.slow
def test_giving_up_takes_seconds(served: Served, write_tif: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the pauses that users have, for both kinds of failure and both moments."""
    monkeypatch.delenv("GDAL_HTTP_RETRY_DELAY")
    write_tif(pixels(), "slow.tif", **TILED)
    scene = open_scene(f"{served.url}/slow.tif")
    served.failures = ALWAYS
    for attempt in (lambda: open_scene(f"{served.url}/other.tif"), lambda: read(scene)):
        begun = time.monotonic()
        with pytest.raises(SceneError):
            attempt()
        assert time.monotonic() - begun < 30


def test_a_port_where_nobody_answers() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(SceneError, match=rf"127\.0\.0\.1:{port} does not answer or breaks off .*check the address"):
        open_scene(f"http://127.0.0.1:{port}/x.tif")


def test_a_server_without_ranges_says_to_download(served: Served, write_tif: Write) -> None:
    write_tif(pixels(), "whole.tif")
    served.ranges = False
    with pytest.raises(SceneError, match="sends no parts of files: download it and open the copy"):
        open_scene(f"{served.url}/whole.tif")


def test_a_truncated_file_on_a_server(served: Served, write_tif: Write) -> None:
    path = write_tif(pixels(), "short.tif", driver="COG", blocksize=256)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    scene = open_scene(f"{served.url}/short.tif")
    with pytest.raises(SceneError, match=r"short\.tif is damaged or cut short: it opens, but pixels cannot be read"):
        read(scene)
    (served.root / "text.tif").write_text("no raster" * 3000)
    with pytest.raises(
        SceneError, match=r"text\.tif cannot be opened as a raster: it is damaged or of no known format"
    ):
        open_scene(f"{served.url}/text.tif")


def test_signatures_stay_out_of_messages_and_attributes(served: Served, write_tif: Write) -> None:
    write_tif(pixels(), "x.tif")
    signed = f"{served.url}/x.tif?sig=secret&se={'0' * 400}"
    scene = open_scene(signed)
    assert "secret" not in str(scene.attrs)
    assert {path for path, _, _ in served.requests} == {signed.removeprefix(served.url)}  # the server gets it
    served.status, served.failures = 403, ALWAYS
    with pytest.raises(SceneError) as failure:
        open_scene(f"{signed}&again=1")
    assert "secret" not in str(failure.value)
    assert remote.shown("https://user:word@example.org/x.tif?sig=1") == "https://example.org/x.tif"


def test_another_thread_s_login_reaches_no_other_server(served: Served, write_tif: Write) -> None:
    """GDAL's options of the main thread hold in all threads that set none."""
    write_tif(pixels(), "x.tif")
    with rasterio.Env(GDAL_HTTP_HEADERS="Authorization: Bearer secret"):
        thread = threading.Thread(target=lambda: open_scene(f"{served.url}/x.tif").values)
        thread.start()
        thread.join()
    assert len(served.requests) > 1
    assert {login for _, _, login in served.requests} == {None}


@pytest.mark.parametrize(
    "said",
    [
        "Authorization: Bearer mine",
        "X-Of: a, b,Authorization: Bearer mine",
        "X-Of: a, Authorization: Bearer mine",
        'X-Of: a,Authorization: "Bearer mine"',
        '"X-Of: a, b: c",Authorization:Bearer mine',
        'X-Of: "a", b: c\r\nAuthorization: Bearer mine',
        "Authorization: Bearer mine\nX-Of: a",
    ],
)
def test_headers_of_the_environment_reach_rasters_and_texts(
    said: str, served: Served, write_tif: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In all forms that GDAL knows, and in the one that it does not take apart."""
    write_tif(pixels(), "x.tif")
    (served.root / "item.json").write_text("{}")
    served.token = "mine"
    monkeypatch.setenv("GDAL_HTTP_HEADERS", said)
    open_scene(f"{served.url}/x.tif")
    assert remote.fetch_text(f"{served.url}/item.json") == "{}"
    assert {login for _, _, login in served.requests} == {"Bearer mine"}


def test_commas_and_quotes_of_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, expected in {
        "": {}, "X-A:": {}, "X-A: a, b,,X-B: 10:20": {"X-A": "a, b", "X-B": "10:20"},
        '"X-A: a, b: c", X-B: 2': {"X-A": "a, b: c", "X-B": "2"}, 'X-A: "a': {"X-A": "a"},
        'X-A: Token="t", b: c\r\nX-B: 2': {"X-A": 'Token="t", b: c', "X-B": "2"},
        "X-A: 1,X-B: 2\n": {"X-A": "1", "X-B": "2"}, "X-A: 1,X-B: 2\nX-C: 3": {"X-A": "1", "X-B": "2", "X-C": "3"},
        'X-A: "a\\"b",X-B: 2': {"X-A": 'a"b', "X-B": "2"}, "X-A: 1\r\n": {"X-A": "1"},
    }.items():  # fmt: skip
        monkeypatch.setenv("GDAL_HTTP_HEADERS", said)
        assert said_headers() == expected, said
    for said in ("X-A", ": secret", "X A: secret", "X-A: sec\u201dret", "X-A: sec\u0007ret"):
        monkeypatch.setenv("GDAL_HTTP_HEADERS", said)
        with pytest.raises(ConfigError, match="GDAL_HTTP_HEADERS holds what cannot be sent") as failure:
            said_headers()
        assert "secret" not in str(failure.value)


def test_headers_go_with_a_redirect_within_their_host_and_no_further(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDAL_HTTP_HEADERS", "Authorization: Bearer mine")
    (tmp_path / "item.json").write_text("{}")
    with serve_folder(tmp_path) as gate:
        gate.redirect = served.url
        assert remote.fetch_text(f"{gate.url}/item.json") == "{}"
        assert [login for server in (gate, served) for *_, login in server.requests] == ["Bearer mine", None]
    served.moved = {"/old.json": "/item.json"}
    assert remote.fetch_text(f"{served.url}/old.json") == "{}"
    assert [login for *_, login in served.requests[1:]] == ["Bearer mine"] * 2
