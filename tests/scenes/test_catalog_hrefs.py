"""Where catalogs may point: those on a server to servers alone, and to no private one but their own."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import rasterio.shutil
from rasterio.vrt import WarpedVRT

from prithvi import guard, hosts
from prithvi.errors import AddressError, DatasetError, HubError, SceneError
from prithvi.hls import get, read_items, search
from prithvi.scenes import open_scene
from prithvi.scenes.remote import fetch_text
from tests.conftest import needs_search
from tests.http_files import Served, serve_folder

Write = Callable[..., Path]
BANDS = ["blue", "green", "red", "nir_narrow", "swir_1", "swir_2"]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", hosts.ALLOW):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "web").mkdir()
    with serve_folder(tmp_path / "web") as server:
        yield server


@pytest.fixture
def secret(tmp_path: Path, write_tif: Write) -> Path:
    """A raster of this machine that no server has."""
    pixels = np.random.default_rng(0).integers(1, 5000, (6, 64, 64)).astype(np.int16)
    path = write_tif(pixels, nodata=-9999)
    return Path(shutil.move(path, tmp_path / "secret.tif"))


def item_of(file: Path, href: str, **fields: Any) -> Path:
    """Writes an item whose one asset has all bands."""
    item = pystac.Item("scene", None, None, dt.datetime(2022, 5, 31, tzinfo=dt.UTC), {})
    bands = {"eo:bands": [{"name": band, "common_name": band} for band in BANDS]}
    item.add_asset("data", pystac.Asset(href, media_type=fields.get("kind", "image/tiff"), extra_fields=bands))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(item.to_dict()))
    return file


def test_a_catalog_on_this_machine_may_point_to_its_files(secret: Path, tmp_path: Path) -> None:
    for number, href in enumerate((secret.as_uri(), str(secret), "../secret.tif")):
        scene = open_scene(item_of(tmp_path / "catalog" / f"{number}.json", href))
        assert scene.sizes["band"] == 6
        assert scene.values.mean() > 0


@pytest.mark.parametrize("form", ["{uri}", "FILE://{path}", "vrt://{path}", "/vsizip/{path}"])
def test_one_on_a_server_may_not_point_to_files_unless_that_is_allowed(
    form: str, served: Served, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    href = form.format(uri=secret.as_uri(), path=secret)
    item_of(served.root / "item.json", href)
    with pytest.raises(AddressError, match=r"item\.json points to .*secret\.tif, and what comes from a server may"):
        open_scene(f"{served.url}/item.json")
    monkeypatch.setenv(hosts.ALLOW, "*")  # any host is not any file
    with pytest.raises(AddressError, match="points to"):
        open_scene(f"{served.url}/item.json")
    if form == "{uri}":  # what the sentence says
        monkeypatch.setenv(hosts.ALLOW, "file:")
        assert open_scene(f"{served.url}/item.json").sizes["band"] == 6


@pytest.mark.parametrize("form", ["../../../secret.tif", "{path}", "NETCDF:{path}"])
def test_relative_addresses_stay_on_the_server(form: str, served: Served, secret: Path) -> None:
    item_of(served.root / "item.json", form.format(path=secret))
    # pystac before 1.14 takes {path} for one of this machine, and newer ones for one of the server.
    refused = rf"has no {served.url}/.*secret\.tif \(status 404\)|points to /.*secret\.tif"
    with pytest.raises((SceneError, AddressError), match=refused):
        open_scene(f"{served.url}/item.json")
    shutil.copy(secret, served.root / "scene.tif")
    item_of(served.root / "item.json", "./scene.tif")
    assert open_scene(f"{served.url}/item.json").values.mean() > 0


def test_one_on_a_server_may_point_to_its_own_private_host_and_to_another_only_if_allowed(
    served: Served, secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`localhost` is a name of another host, which resolves to a loopback address."""
    (tmp_path / "inner").mkdir()
    shutil.copy(secret, tmp_path / "inner" / "scene.tif")
    shutil.copy(secret, served.root / "scene.tif")
    with serve_folder(tmp_path / "inner") as inner:
        port = inner.url.rpartition(":")[2]
        item_of(served.root / "item.json", f"{served.url}/scene.tif")
        assert open_scene(f"{served.url}/item.json").values.mean() > 0
        item_of(served.root / "item.json", f"http://localhost:{port}/scene.tif")
        with pytest.raises(AddressError, match="but localhost has an address of this machine or network"):
            open_scene(f"{served.url}/item.json")
        assert inner.requests == []
        monkeypatch.setenv(hosts.ALLOW, "localhost")
        assert open_scene(f"{served.url}/item.json").values.mean() > 0
        assert inner.requests


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "10.0.0.1", "[::1]", "[fe80::1]", "0.0.0.0", "2130706433", "192.168.1.1"]
)
def test_private_addresses_in_every_writing(host: str, served: Served) -> None:
    item_of(served.root / "item.json", f"http://{host}/scene.tif")
    with pytest.raises(AddressError, match="has an address of this machine or network"):
        open_scene(f"{served.url}/item.json")


@needs_search
def test_a_redirect_leads_to_no_private_host(served: Served, secret: Path, tmp_path: Path) -> None:
    """Neither of a raster, nor of an item, nor of a file that is fetched."""
    (tmp_path / "inner").mkdir()
    shutil.copy(secret, tmp_path / "inner" / "scene.tif")
    item_of(tmp_path / "inner" / "item.json", "scene.tif")
    with serve_folder(tmp_path / "inner") as inner:
        served.redirect = f"http://localhost:{inner.url.rpartition(':')[2]}"
        for ask in (lambda: open_scene(f"{served.url}/scene.tif"), lambda: open_scene(f"{served.url}/item.json"),
                    lambda: fetch_text(f"{served.url}/item.json")):  # fmt: skip
            with pytest.raises(
                SceneError, match=r"is not read, as it leads elsewhere: localhost has an address of this"
            ):
                ask()
        item = pystac.Item("HLS.L30.T31UDS.2022060T105337.v2.0", None, None, dt.datetime(2022, 3, 1, tzinfo=dt.UTC), {})
        for band in ("B02", "Fmask"):
            item.add_asset(band, pystac.Asset(f"{served.url}/{band}.tif"))
        with pytest.raises(DatasetError, match="leads elsewhere: localhost has an address of this"):
            get([item], tmp_path / "got", bands=["blue"])
        with pytest.raises(HubError, match="leads elsewhere: localhost has an address of this"):
            search(served.url, bbox=(0, 0, 1, 1))
        assert inner.requests == []


def test_a_name_that_was_public_stays_so(served: Served, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a name's address is changed between the look at the catalog and the reading."""
    shutil.copy(secret, served.root / "scene.tif")
    monkeypatch.setitem(guard._public, "localhost", True)
    item_of(served.root / "item.json", f"http://localhost:{served.url.rpartition(':')[2]}/scene.tif")
    with pytest.raises(SceneError, match="localhost has an address of this machine or network"):
        open_scene(f"{served.url}/item.json")
    assert [path for path, *_ in served.requests] == ["/item.json"]


def test_a_file_that_names_others_is_not_read_unless_the_user_names_it(served: Served, secret: Path) -> None:
    with rasterio.open(secret) as raster, WarpedVRT(raster) as warped:
        rasterio.shutil.copy(warped, served.root / "scene.vrt", driver="VRT")
    text = (served.root / "scene.vrt").read_text()
    assert str(secret) in text
    shutil.copy(served.root / "scene.vrt", served.root / "scene.tif")
    item_of(served.root / "item.json", "scene.vrt")
    with pytest.raises(AddressError, match="a file that names further files: give its address yourself"):
        open_scene(f"{served.url}/item.json")
    item_of(served.root / "item.json", "scene.tif")
    with pytest.raises(SceneError, match="names further files, which its name does not say"):
        open_scene(f"{served.url}/item.json")
    assert open_scene(f"{served.url}/scene.vrt", bands=BANDS).sizes["band"] == 6


def test_items_on_servers_that_a_catalog_on_disk_links_to_are_looked_at(
    served: Served, secret: Path, tmp_path: Path
) -> None:
    item_of(served.root / "item.json", secret.as_uri())
    catalog = pystac.Catalog("c", "c")
    catalog.add_link(pystac.Link("item", f"{served.url}/item.json"))
    catalog.save_object(include_self_link=False, dest_href=str(tmp_path / "catalog.json"))
    with pytest.raises(DatasetError, match="what comes from a server may name"):
        read_items(tmp_path / "catalog.json")


def test_the_option_of_the_command_line(
    served: Served, secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prithvi: Callable[..., Any]
) -> None:
    monkeypatch.setenv(hosts.ALLOW, "elsewhere.example")
    shutil.copy(secret, served.root / "scene.tif")
    item_of(served.root / "item.json", f"http://localhost:{served.url.rpartition(':')[2]}/scene.tif")
    command = ["map", "water", f"{served.url}/item.json", "-o", tmp_path / "out", "--scale", "10000"]
    answer = prithvi(*command)
    assert answer.code == 2
    assert "prithvi --allow-private localhost ..., or PRITHVI_ALLOW_PRIVATE=localhost" in answer.err
    answer = prithvi("--allow-private", "localhost", *command)
    assert "has an address of this machine" not in answer.err
    assert answer.code == 0, answer.err
