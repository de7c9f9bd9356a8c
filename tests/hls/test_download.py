"""Fetching: whole or begun, never wrong; secrets reach no other host."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pystac
import pytest

from prithvi.errors import DatasetError, HubError, OutputError
from prithvi.hls import get, read_items
from prithvi.hls.items import asset_href
from prithvi.scenes import logins as access
from prithvi.scenes.paths import readable
from prithvi.scenes.remote import gdal_environment
from tests.conftest import needs_search
from tests.http_files import serve_folder
from tests.synthetic_hls import Archive


def remote(archive: Archive, url: str, count: int = 2) -> list[pystac.Item]:
    """Items whose files lie on a server."""
    items = [item.clone() for item in archive.items[:count]]
    for item in items:
        for asset in item.assets.values():
            asset.href = f"{url}/{item.id}/{Path(asset.href).name}"
    return items


def same(archive: Archive, folder: Path, items: list[pystac.Item]) -> bool:
    names = [path.relative_to(archive.root) for item in items for path in (archive.root / item.id).iterdir()]
    return all((folder / name).read_bytes() == (archive.root / name).read_bytes() for name in names)


@needs_search
def test_granules_arrive_whole_with_items_that_say_where_they_are(archive: Archive, tmp_path: Path) -> None:
    with serve_folder(archive.root) as server:
        items = remote(archive, server.url)
        got = get(items, tmp_path)
        assert len(server.requests) == 14
        assert same(archive, tmp_path, items)
        again = get(items, tmp_path)
        assert len(server.requests) == 14  # whole files are not fetched twice
    assert (
        [item.id for item in read_items(tmp_path / "items.json")] == [item.id for item in got] == [i.id for i in again]
    )
    assert Path(readable(asset_href(got[0], "nir_narrow"))).parent == (tmp_path / got[0].id).resolve()


@needs_search
def test_a_broken_connection_goes_on_where_it_was(archive: Archive, tmp_path: Path) -> None:
    with serve_folder(archive.root, cut_after=70_000) as server:
        items = remote(archive, server.url, 1)
        get(items, tmp_path, workers=1)
        assert same(archive, tmp_path, items)
        resumed = [wanted for _, wanted, _ in server.requests if wanted is not None]
        assert resumed
        assert set(resumed) == {"bytes=65536-"}  # what had arrived in whole blocks is not fetched again
    assert not list(tmp_path.rglob("*.part*"))


@needs_search
def test_a_file_that_changed_on_the_server_is_begun_anew(archive: Archive, tmp_path: Path) -> None:
    with serve_folder(archive.root) as server:
        items = remote(archive, server.url, 1)
        name = Path(asset_href(items[0], "blue")).name
        part = tmp_path / items[0].id / f"{name}.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(b"x" * 1000)
        part.with_name(part.name + ".etag").write_text('"of an older file"')
        get(items, tmp_path)
        assert same(archive, tmp_path, items)


@needs_search
def test_a_wrong_size_or_checksum_is_refused_and_the_others_are_kept(archive: Archive, tmp_path: Path) -> None:
    with serve_folder(archive.root) as server:
        items = remote(archive, server.url)
        data = (archive.root / items[0].id / Path(items[0].assets["B02"].href).name).read_bytes()
        items[0].assets["B02"].extra_fields = {
            "file:size": len(data), "file:checksum": "1220" + hashlib.sha256(data).hexdigest(),
        }  # fmt: skip
        get(items[:1], tmp_path / "right")
        items[0].assets["B02"].extra_fields["file:checksum"] = "1220" + "0" * 64
        with pytest.raises(
            DatasetError, match=r"1 of 14 files could not be fetched, .*B02\.tif because: .* another checksum"
        ):
            get(items, tmp_path / "wrong")
        assert [item.id for item in read_items(tmp_path / "wrong" / "items.json")] == [items[1].id]
        items[0].assets["B02"].extra_fields = {"file:size": 5}
        with pytest.raises(DatasetError, match="bytes, and its item says 5"):
            get(items, tmp_path / "size")


@needs_search
def test_what_is_not_there_or_not_allowed_is_said(archive: Archive, tmp_path: Path) -> None:
    with serve_folder(archive.root) as server:
        items = remote(archive, server.url, 1)
        items[0].assets["B03"].href += ".gone"
        with pytest.raises(DatasetError, match=r"1 of 7 files .*status 404\): search again"):
            get(items, tmp_path / "a")
    refused = pytest.raises(DatasetError, match=r"7 of 7 files .*status 401\): a login is missing")
    with serve_folder(archive.root, token="secret") as server, refused:
        get(remote(archive, server.url, 1), tmp_path / "b")


def test_local_granules_are_copied_the_same_way(archive: Archive, tmp_path: Path) -> None:
    get(archive.items[:1], tmp_path)
    assert same(archive, tmp_path, archive.items[:1])


@needs_search
def test_a_login_reaches_its_own_hosts_only(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHDATA_TOKEN", "secret")
    access.token.cache_clear()
    with serve_folder(archive.root, token="secret") as server, serve_folder(archive.root) as other:
        items = remote(archive, server.url, 1)
        get(items, tmp_path / "in", hosts=("127.0.0.1",))
        assert {authorization for _, _, authorization in server.requests} == {"Bearer secret"}
        get(remote(archive, other.url, 1), tmp_path / "out", hosts=("nasa.example",))
        assert {authorization for _, _, authorization in other.requests} == {None}
        # A redirect to another host leaves the login behind; to one of this machine it has to be allowed.
        monkeypatch.setenv("PRITHVI_ALLOW_PRIVATE", "localhost")
        server.redirect = other.url.replace("127.0.0.1", "localhost")
        other.requests.clear()
        get(items, tmp_path / "redirected", hosts=("127.0.0.1",))
        assert other.requests
        assert {authorization for _, _, authorization in other.requests} == {None}
    access.token.cache_clear()


def test_hosts_are_matched_whole_and_only_over_https() -> None:
    assert access.belongs("https://data.lpdaac.earthdatacloud.nasa.gov/x.tif", access.EARTHDATA)
    assert not access.belongs("http://data.lpdaac.earthdatacloud.nasa.gov/x.tif", access.EARTHDATA)
    assert not access.belongs("https://earthdatacloud.nasa.gov.evil.example/x.tif", access.EARTHDATA)
    assert not access.belongs("https://evil-earthdata.nasa.gov.example/x", access.EARTHDATA)
    assert not access.belongs("https://notearthdata.nasa.gov/x", access.EARTHDATA)
    assert access.headers("https://example.org/x.tif") == {}
    assert gdal_environment(["/data/x.tif"]) == {}
    assert "GDAL_HTTP_HEADERS" not in gdal_environment(["https://example.org/x.tif"])


@needs_search
def test_a_missing_login_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("EARTHDATA_TOKEN", "EARTHDATA_USERNAME", "EARTHDATA_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    access.token.cache_clear()
    with pytest.raises(HubError, match="wants an Earthdata login: set EARTHDATA_TOKEN"):
        access.headers("https://data.lpdaac.earthdatacloud.nasa.gov/x.tif")
    access.token.cache_clear()


def test_a_full_disk_is_one_sentence(archive: Archive, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)], capture_output=True
    ).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        with pytest.raises(OutputError, match="the disk is full; what was fetched is kept"):
            get(archive.items, folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
