"""The faults that verbs are hurt by. Each try says how it ended; a `LossError` says what went wrong."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio

from prithvi.chips import ChipStore
from prithvi.errors import PrithviError
from tests.clusters import Cluster
from tests.faults.places import Asked, LossError, Place, Running, Whole, small_disk

ALWAYS = 10**6


class ImpossibleError(Exception):
    """This machine, or this verb, does not allow the fault; says why."""


@dataclass(frozen=True)
class Trouble:
    """A column of the table."""

    name: str
    title: str
    bring: Callable[[Place, random.Random, int], str]
    """Brings the fault (place, chance, number of the try), looks at what is left, and says how the run ended."""
    tries: int


def killed(place: Place, chance: random.Random, number: int) -> str:
    """SIGKILL: at an operation on a file of the result, or at any time; then the same command again."""
    words = place.verb.words
    whole = place.whole(words)
    by_file, lasts = whole.operations > 0 and number % 3 > 0, whole.seconds
    for _ in range(20):  # a run that was over before its moment came is no answer
        place.fresh(earlier=number % 2 == 1)
        if by_file:
            last = whole.operations if number % 3 == 1 else max(1, whole.operations // 5)
            stop = (
                whole.operations + 1 - chance.randint(1, last)
            )  # everywhere; and near the end, where all is published
            run = place.start(words, below=str(place.out), stop_at=stop)
        else:
            run = place.start(words)
            time.sleep(chance.uniform(0.2, 1) * lasts)
            run.kill()
            lasts *= 0.8  # the first run of all imports more than those after it
        if run.wait().code == -signal.SIGKILL:
            break
    else:
        raise LossError("it was never killed")
    place.nothing_lost(whole)
    place.goes_on(words, whole)
    return "resumed"


def full_disk(place: Place, chance: random.Random, number: int) -> str:
    """A file system that the result does not fit into; or a limit for each file, which any user may set."""
    words = place.verb.words
    whole = place.whole(words)
    if number % 2 and not place.verb.service:  # a service's jobs run in processes of their own
        place.fresh(earlier=number % 4 == 3)
        largest = max(map(len, whole.result.values()))
        done = place.start(words, file_limit=int(largest * chance.uniform(0.2, 0.9))).wait()
        how = place.ends_well(done, whole)
        place.goes_on(words, whole)
        return how
    place.out.mkdir(exist_ok=True)
    try:
        with small_disk(place.out, 1 << 30) as enlarge:
            place.fresh(earlier=number % 4 == 2)
            held = sum(file.stat().st_blocks * 512 for file in place.out.rglob("*"))
            enlarge(held + int(whole.size * chance.uniform(0.15, 0.8)))
            how = place.ends_well(place.start(words).wait(), whole)
            enlarge(1 << 30)
            place.goes_on(words, whole)
    except PermissionError as error:
        raise ImpossibleError(str(error)) from error
    return how


def cut_connection(place: Place, chance: random.Random, number: int) -> str:
    """A server that fails some requests and comes back, one that stays away, and answers that break off."""
    words = place.verb.remote
    whole = place.whole(words)
    place.fresh(earlier=number % 2 == 1)
    begin = chance.randint(1, max(1, whole.requests - 1))
    before, hub = place.requests, place.verb.name in ("pull", "push")
    if number % 3 == 2:
        place.hub.cut_after = place.served.cut_after = chance.randint(100, 3000)
        run = place.start(words)
    else:
        run = place.start(words)
        while run.ended() is None and place.requests - before < begin:
            time.sleep(0.002)
        times = ALWAYS if number % 3 == 1 else 2
        if hub:
            place.hub.drops = times
        elif number % 2:
            place.served.failures = times
        else:
            place.served.drops = times
    how = place.ends_well(run.wait(), whole)
    place.goes_on(words, whole)
    return how


def _harmed_file(place: Place, chance: random.Random) -> Path:
    files = sorted(file for pattern in place.verb.harmed for file in (place.folder / "in").glob(pattern))
    assert files, place.verb.harmed
    return chance.choice(files)


def _another_image(file: Path, before: Path) -> bool:
    """Whether GDAL, or a chip store, reads a file without any complaint, and finds other pixels or facts in it."""
    stores = [place for place in file.parents if place.suffix == ".zarr"]
    try:
        if stores:
            at = file.relative_to(stores[0])
            both = [ChipStore(store) for store in (stores[0], before.parents[len(at.parts) - 1])]
            pixels = [store.read(range(len(store))) for store in both]
            return any(not np.array_equal(pixels[0][name], pixels[1][name]) for name in pixels[1])
        if file.suffix != ".tif":
            return False
        with rasterio.open(file) as raster, rasterio.open(before) as whole:
            facts = [(r.profile, r.scales, r.offsets, r.descriptions, r.tags()) for r in (raster, whole)]
            return facts[0] != facts[1] or not np.array_equal(raster.read(), whole.read())
    except (rasterio.errors.RasterioError, PrithviError):
        return False


def _harmed(place: Place, chance: random.Random, number: int, harm: Callable[[bytes], bytes]) -> str:
    words = place.verb.words
    whole = place.whole(words)
    place.fresh(earlier=number % 2 == 1)
    file = _harmed_file(place, chance)
    status = file.stat()
    file.write_bytes(harm(file.read_bytes()))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # a disk that rots leaves the time as it was
    try:
        how = place.ends_well(place.start(words).wait(), whole)
    except LossError:
        # Of a GeoTIFF GDAL checks the lengths of its blocks alone, and a store unpacks: what is read is another image.
        if not _another_image(file, place.folder / "pristine" / file.relative_to(place.folder / "in")):
            raise
        how = "another image to its reader"
        place.fresh()  # what goes on from checkpoints of another image is another result
    place.restore()
    place.goes_on(words, whole)
    return how


def truncated(place: Place, chance: random.Random, number: int) -> str:
    """A file of the input, or the hub's answer, ends before its end."""
    if place.verb.name == "pull":
        return _wrong_answer(place, number, "short")
    return _harmed(place, chance, number, lambda data: data[: int(len(data) * chance.uniform(0, 0.97))])


def flipped(place: Place, chance: random.Random, number: int) -> str:
    """A byte of the input's pixels or weights, or of the hub's answer, is another one."""
    if place.verb.name == "pull":
        return _wrong_answer(place, number, "damage")

    def harm(data: bytes) -> bytes:
        at = int(len(data) * chance.uniform(0.35, 0.95))  # behind the header
        return data[:at] + bytes([data[at] ^ chance.randint(1, 255)]) + data[at + 1 :]

    return _harmed(place, chance, number, harm)


def _wrong_answer(place: Place, number: int, kind: str) -> str:
    words = place.verb.words
    whole = place.whole(words)
    place.fresh(earlier=number % 2 == 1)
    setattr(place.hub, kind, True)
    how = place.ends_well(place.start(words).wait(), whole)
    place.goes_on(words, whole)
    return how


def removed_worker(place: Place, chance: random.Random, number: int) -> str:
    """A process that works for the run (of Dask, of a data loader, of the service) is killed.

    Of a cluster one of two, or both; then another one comes two seconds later.
    """
    words = place.verb.spread or place.verb.words
    with place.workers() as workers:
        whole = place.whole(words)
        for _ in range(10):
            place.fresh(earlier=number % 2 == 1 and not place.verb.spread)
            run = place.start(words)
            if workers is not None:
                removed = _removed_of_cluster(place, run, workers, chance, number % 2 == 1)
            else:
                removed = _removed_child(run, whole, chance)
            if removed:
                break
            run.wait()
        else:
            raise LossError("no process was there to be killed")
        how = place.ends_well(run.wait(), whole)
        place.goes_on(words, whole)
    return how


def _removed_of_cluster(place: Place, run: Running, workers: Cluster, chance: random.Random, both: bool) -> bool:
    while run.ended() is None and not list(place.out.glob(place.verb.busy)):
        time.sleep(0.002)
    if run.ended() is not None:
        return False
    pids = [worker.pid for worker in workers.workers]
    for pid in pids if both else [chance.choice(pids)]:
        workers.kill(pid)
    if both:
        time.sleep(2)
        workers.add()
    return True


def _removed_child(run: Running, whole: Whole, chance: random.Random) -> bool:
    time.sleep(chance.uniform(0, 0.8) * whole.seconds)
    while run.ended() is None and not _children(run.pid):
        time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.2) * whole.seconds)
    victims = _children(run.pid)
    if run.ended() is not None or not victims:
        return False
    os.kill(chance.choice(victims), signal.SIGKILL)
    return True


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(word) for task in tasks for word in (task / "children").read_text().split()]
    except OSError:
        return []


def read_only(place: Place, chance: random.Random, number: int) -> str:
    """Nothing may be written below the folder of the result."""
    words = place.verb.words
    whole = place.whole(words)
    place.fresh(earlier=number % 2 == 1)
    folders = [place.out, *(path for path in place.out.rglob("*") if path.is_dir() and not path.is_symlink())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        done = place.start(words, powerless=True).wait()
        if done.code == 0:
            raise LossError("it says that it has written where nothing can be written")
        how = place.ends_well(done, whole)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    place.goes_on(words, whole)
    return how


def two_at_once(place: Place, chance: random.Random, number: int) -> str:
    """A second run of the same begins while the first runs."""
    words = place.verb.words
    whole = place.whole(words)
    place.fresh(earlier=number % 2 == 1)
    first = place.start(words)
    time.sleep(chance.uniform(0, 0.6) * whole.seconds)
    second = place.start(words, again=False)
    if isinstance(first, Asked) and isinstance(second, Asked):
        second.beside, first.beside = first, second
    ends = [run.wait() for run in (first, second)]
    for done in ends:
        if done.code and not done.sentence:
            raise LossError(f"it ended in {done.code} without one sentence of ours: {done.told[-2500:]}")
    if all(done.code for done in ends):
        raise LossError(f"both were refused: {[done.sentence for done in ends]}")
    place.right(whole)
    place.goes_on(words, whole)
    return "both right" if not any(done.code for done in ends) else "right, refused"


TROUBLES = {
    trouble.name: trouble for trouble in (
        Trouble("killed", "killed", killed, 6),
        Trouble("disk", "disk full", full_disk, 4),
        Trouble("connection", "connection cut", cut_connection, 6),
        Trouble("truncated", "input truncated", truncated, 4),
        Trouble("flipped", "input's bytes flipped", flipped, 4),
        Trouble("worker", "worker removed", removed_worker, 3),
        Trouble("read-only", "folder read-only", read_only, 2),
        Trouble("twice", "two at once", two_at_once, 3),
    )
}  # fmt: skip
