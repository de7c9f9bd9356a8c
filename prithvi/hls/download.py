"""Granules to disk, file by file: partial files are resumed, complete ones kept."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pystac

from prithvi.bands import PRITHVI_BANDS
from prithvi.errors import DatasetError, HubError, MissingExtraError, OutputError, PrithviError
from prithvi.files import sha256
from prithvi.hls.granules import Granule
from prithvi.hls.items import asset_href, write_items
from prithvi.scenes.remote import EARTHDATA, headers, local_path, signed

_BLOCK = 1 << 15
"""Bytes written at a time: the most that a broken connection loses."""
_TRIES = 4
_SHA256 = "1220"
"""How a multihash of SHA-256 begins (STAC's file extension)."""


def get(
    items: Sequence[pystac.Item],
    folder: str | Path,
    *,
    bands: Sequence[str] = PRITHVI_BANDS,
    workers: int = 4,
    progress: Callable[[int, int], None] | None = None,
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
    jobs: list[tuple[pystac.Item, str, str, Path]] = []
    for item in items:
        granule = Granule.parse(item.id)
        for band in (*bands, "fmask"):
            name = granule.file_name(band)
            jobs.append((item, name.split(".")[-2], asset_href(item, band), root / str(granule) / name))
    failed: dict[str, Exception] = {}
    if progress is not None:
        progress(0, len(jobs))
    with ThreadPoolExecutor(workers) as pool:
        waiting = {pool.submit(_fetch, job[2], job[3], _checks(job[0], job[2]), hosts): job for job in jobs}
        try:
            for number, done in enumerate(as_completed(waiting), start=1):
                try:
                    done.result()
                except (OutputError, MissingExtraError):
                    raise
                except PrithviError as error:
                    failed[str(waiting[done][3].name)] = error
                if progress is not None:
                    progress(number, len(jobs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    whole = [item for item in items if not any(name.startswith(item.id) for name in failed)]
    got = [_here(item, [job for job in jobs if job[0] is item]) for item in whole]
    if got:
        write_items(got, root / "items.json")
    if failed:
        first = min(failed)
        raise DatasetError(
            f"{len(failed)} of {len(jobs)} files could not be fetched, {first} because: {failed[first]} The others are "
            "there: run the same command again."
        )
    return got


def _here(item: pystac.Item, jobs: Sequence[tuple[pystac.Item, str, str, Path]]) -> pystac.Item:
    """The item with the files on disk as its only assets."""
    copy = item.clone()
    copy.clear_links()
    copy.assets = {}
    for _, key, _, path in jobs:
        role = "mask" if key == "Fmask" else "data"
        copy.add_asset(key, pystac.Asset(path.resolve().as_uri(), media_type=pystac.MediaType.GEOTIFF, roles=[role]))
    return copy


def _checks(item: pystac.Item, href: str) -> tuple[int | None, str | None]:
    """Size and SHA-256 that an item states of a file."""
    for asset in item.assets.values():
        if href in (asset.href, asset.get_absolute_href()):
            size, digest = asset.extra_fields.get("file:size"), asset.extra_fields.get("file:checksum")
            sha = digest[len(_SHA256) :] if isinstance(digest, str) and digest.startswith(_SHA256) else None
            return (int(size) if size is not None else None), sha
    return None, None


def _fetch(href: str, target: Path, checks: tuple[int | None, str | None], hosts: Sequence[str]) -> None:
    """Fetches one file; until it is complete its name ends in `.part`."""
    size, sha = checks
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
            raise HubError(f"{href} has {found:,} bytes, and its item says {size:,}.")
        if sha is not None and sha256(part) != sha:
            part.unlink()
            raise HubError(f"{href} is not what its item describes: another checksum.")
        part.replace(target)
    except OSError as error:
        if isinstance(error, PrithviError):
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else f"it cannot be written ({error.strerror})"
        raise OutputError(f"{target}: {what}; what was fetched is kept, run the same command again.") from error


def _download(href: str, part: Path, hosts: Sequence[str]) -> None:
    """Fetches an address, resuming at the end of `part`; starts over if the file on the server has changed."""
    try:
        import requests
    except ImportError as error:
        raise MissingExtraError("fetching from an archive", "search") from error
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
            # requests drops Authorization when a redirect leaves the host.
            with requests.get(signed(href), headers=wanted, stream=True, timeout=60) as answer:
                if answer.status_code == 416:  # it is complete, or has become shorter
                    part.unlink()
                    continue
                if answer.status_code >= 400:
                    trouble = _refused(answer.status_code, href)
                    if answer.status_code in (401, 403, 404, 410):
                        break
                    continue
                _keep(answer, part, mark)
            mark.unlink(missing_ok=True)
            return
        except requests.RequestException as error:
            trouble = f"{urlparse(href).netloc} broke off or does not answer ({type(error).__name__})."
    raise HubError(trouble or f"{href} could not be fetched.")


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


def _refused(status: int, href: str) -> str:
    host = urlparse(href).netloc
    if status in (401, 403):
        return f"{host} refuses {href} (status {status}): a login is missing or has ended."
    if status in (404, 410):
        return f"{host} has no {href} any more (status {status}): search again."
    return f"{href} answers with status {status}."
