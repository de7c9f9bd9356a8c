"""Granules to disk, file by file: partial files are resumed, complete ones kept."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pystac

from prithvi import guard
from prithvi.bands import PRITHVI_BANDS
from prithvi.errors import DatasetError, HubError, MissingExtraError, OutputError, PrithviError, needs
from prithvi.files import sha256
from prithvi.hls.granules import Granule
from prithvi.hls.items import asset_href, with_files, write_items
from prithvi.parallel import Progress, run
from prithvi.scenes.logins import EARTHDATA, headers, signed
from prithvi.scenes.paths import local_path, shown

_BLOCK = 1 << 15
"""Bytes written at a time: the most that a broken connection loses."""
_TRIES = 4
_SHA256 = "1220"
"""How a multihash of SHA-256 begins (STAC's file extension)."""
_LOGIN = "refuses {} (status {}): a login is missing or has ended."
_GONE = "has no {} any more (status {}): search again."
_FOR_GOOD = {401: _LOGIN, 403: _LOGIN, 404: _GONE, 410: _GONE}
"""What is said of answers after which asking again is of no use."""


def get(
    items: Sequence[pystac.Item],
    folder: str | Path,
    *,
    bands: Sequence[str] = PRITHVI_BANDS,
    workers: int = 4,
    progress: Progress | None = None,
    hosts: Sequence[str] = EARTHDATA,
) -> list[pystac.Item]:
    """Fetches bands and Fmask of granules into `folder/<granule>/`, and writes `folder/items.json` about them.

    Args:
        items: granules.
        folder: where to.
        bands: common names; Fmask always comes along.
        workers: files fetched at once.
        progress: called with (files, all files).
        hosts: hosts that need NASA's login.

    Returns:
        The items, with the addresses of the files on disk.

    Raises:
        DatasetError: files that could not be fetched; all others were.
        OutputError: the disk is full, or the folder cannot be written.
        BandError: a granule lacks a band.

    """
    root = Path(folder)
    wanted: list[dict[str, Path]] = []
    jobs: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {}
    for item in items:
        granule = Granule.parse(item.id)
        wanted.append({})
        for band in (*bands, "fmask"):
            name = granule.file_name(band)
            path = wanted[-1][name.split(".")[-2]] = root / str(granule) / name
            jobs[f"fetch {name}"] = (_fetch, (path, item, asset_href(item, band), hosts))
    ended = run(jobs, workers=workers, progress=progress)
    failed = {key.removeprefix("fetch "): error for key, error in ended.items()}
    for error in failed.values():
        if isinstance(error, (OutputError, MissingExtraError)):
            raise error
    got = []
    for item, files in zip(items, wanted, strict=True):
        if failed.keys().isdisjoint(path.name for path in files.values()):
            copy = item.clone()
            copy.clear_links()
            got.append(with_files(copy, files))
    if got:
        write_items(got, root / "items.json")
    if failed:
        first = min(failed)
        raise DatasetError(
            f"{len(failed)} of {len(jobs)} files could not be fetched, {first} because: {failed[first]} The others are "
            "there: run the same command again."
        )
    return got


def _fetch(target: Path, item: pystac.Item, href: str, hosts: Sequence[str]) -> None:
    """Fetches one file of an item; until it is complete its name ends in `.part`."""
    # What the item states of the file (STAC's file extension), where it does.
    assets = (asset for asset in item.assets.values() if href in (asset.href, asset.get_absolute_href()))
    stated = next((asset.extra_fields for asset in assets), {})
    size, digest = stated.get("file:size"), str(stated.get("file:checksum", ""))
    if target.is_file() and (size is None or target.stat().st_size == size):
        return
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        path = local_path(href)
        if path is not None:
            if not path.is_file():
                raise HubError(f"there is no file {path}.")
            shutil.copyfile(path, part)
        else:
            _download(href, part, hosts)
        if size is not None and part.stat().st_size != size:
            found = part.stat().st_size
            part.unlink()
            raise HubError(f"{shown(href)} has {found:,} bytes, and its item says {size:,}.")
        if digest.startswith(_SHA256) and sha256(part) != digest.removeprefix(_SHA256):
            part.unlink()
            raise HubError(f"{shown(href)} is not what its item describes: another checksum.")
        part.replace(target)
    except PrithviError:
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else f"it cannot be written ({error.strerror})"
        raise OutputError(f"{target}: {what}; what was fetched is kept, run the same command again.") from error


def _download(href: str, part: Path, hosts: Sequence[str]) -> None:
    """Fetches an address, resuming at the end of `part`; starts over if the file on the server has changed."""
    with needs("fetching from an archive", "search"):
        import requests
    mark = part.with_name(part.name + ".etag")
    trouble = ""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(0.5 * 2**attempt)
        have = part.stat().st_size if part.is_file() else 0
        wanted = {**headers(href, hosts), "Accept-Encoding": "identity"}
        if have:
            wanted["Range"] = f"bytes={have}-"
            if mark.is_file():
                wanted["If-Range"] = mark.read_text()
        try:
            by = guard.way([href])
            proxies = {"http": by, "https": by} if by else None
            # requests drops Authorization when a redirect leaves the host.
            with requests.get(signed(href), headers=wanted, stream=True, timeout=60, proxies=proxies) as answer:
                if answer.status_code == 416:  # it is complete, or has become shorter
                    part.unlink()
                    continue
                if refused := guard.reason_in(answer.reason or ""):
                    trouble = f"{shown(href)} leads elsewhere: {refused}"
                    break
                if answer.status_code >= 400:
                    trouble = f"{shown(href)} answers with status {answer.status_code}."
                    if answer.status_code in _FOR_GOOD:
                        said = _FOR_GOOD[answer.status_code].format(shown(href), answer.status_code)
                        trouble = f"{urlparse(href).hostname} {said}"
                        break
                    continue
                _keep(answer, part, mark)
            mark.unlink(missing_ok=True)
            return
        except requests.RequestException as error:
            if refused := guard.reason_in(str(error)):
                trouble = f"{shown(href)} leads elsewhere: {refused}"
                break
            trouble = f"{urlparse(href).hostname} broke off or does not answer ({type(error).__name__})."
    raise HubError(trouble or f"{shown(href)} could not be fetched.")


def _keep(answer: Any, part: Path, mark: Path) -> None:
    """Appends a response to the partial file, or restarts it if the server sends the whole file."""
    import requests

    goes_on = answer.status_code == 206
    if not goes_on:
        mark.unlink(missing_ok=True)
        if answer.headers.get("ETag", "").startswith('"'):
            mark.write_text(answer.headers["ETag"])
    length = answer.headers.get("Content-Length")
    got = 0
    with part.open("ab" if goes_on else "wb") as file:
        for block in answer.iter_content(_BLOCK):
            file.write(block)
            got += len(block)
    if length is not None and got != int(length):
        raise requests.ConnectionError(f"{got} of {length} bytes")
