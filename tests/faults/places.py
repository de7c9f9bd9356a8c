"""Where a verb runs and is judged: its inputs, an earlier result, what it has to end in, and what must not be lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.clusters import Cluster, cluster, free_port
from tests.faults.processes import Ended, Forker, Run
from tests.faults.verbs import Content, Verb
from tests.http_files import Served
from tests.hub_server import TOKEN, Hub
from tests.service_client import Service


class LossError(AssertionError):
    """Something was lost, is silently wrong, hangs, or was not said in a sentence of ours."""


class Running(Protocol):
    """A run that has begun, of any verb."""

    pid: int

    def ended(self) -> Ended | None: ...
    def wait(self, seconds: float = 180) -> Ended: ...
    def kill(self) -> None: ...


@dataclass(frozen=True)
class Whole:
    """What a run that nothing happens to gives."""

    result: Content
    seconds: float
    operations: int
    """On files of `out/`."""
    size: int
    """Bytes of everything in `out/`."""
    requests: int
    """Of the servers beside it."""


@dataclass
class Place:
    """A verb in a folder of its own."""

    verb: Verb
    folder: Path
    forker: Forker
    hub: Hub
    served: Served
    known: dict[tuple[str, ...], Whole] = field(default_factory=dict)
    before: Content = field(default_factory=dict)
    """The earlier result."""

    def __post_init__(self) -> None:
        self.port = free_port()
        (self.folder / "in").mkdir(parents=True)
        self.verb.make(self.folder, self.served.url)
        shutil.copytree(self.folder / "in", self.folder / "pristine")
        self.environment = {
            "HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.out), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN,
        } if self.verb.name in ("pull", "push") else {}  # fmt: skip

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def result(self) -> Content:
        return self.verb.result(self.out, self.hub)

    @property
    def requests(self) -> int:
        return len(self.hub.asked) + len(self.served.requests)

    def fresh(self, earlier: bool = False) -> None:
        """As before everything, or with an earlier result under the same names."""
        self.calm()
        for path in (*self.folder.glob("told-*"), self.folder / "job"):
            path.unlink(missing_ok=True)
        if self.out.exists():
            self.empty()
        self.out.mkdir(exist_ok=True)
        self.restore()
        self.hub.repositories.clear()
        self.hub.store.clear()
        self.before = {}
        if earlier and self.verb.earlier:
            self.verb.stage(self.hub, self.folder, True)
            done = self.start(self.verb.earlier, scene="small.tif").wait()
            assert done.code == 0, done
            self.before = self.result
            assert self.before
            (self.folder / "job").unlink(missing_ok=True)
        self.verb.stage(self.hub, self.folder, False)

    def empty(self) -> None:
        """Removes what is in `out/`, which may be a file system of its own."""
        for path in self.out.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    @contextmanager
    def workers(self) -> Iterator[Cluster | None]:
        """A cluster of two workers at the place's port, if the verb can use one."""
        if "{scheduler}" not in self.verb.spread:
            yield None
            return
        with cluster(self.port, workers=2) as made:
            yield made

    def restore(self) -> None:
        """The inputs, with the times that they had."""
        shutil.rmtree(self.folder / "in")
        shutil.copytree(self.folder / "pristine", self.folder / "in")

    def calm(self) -> None:
        """The servers answer."""
        self.hub.cut_after, self.hub.damage, self.hub.short, self.hub.drops = None, False, False, 0
        self.hub.cut.clear()
        self.served.failures = self.served.drops = 0
        self.served.cut_after = None
        self.served.cut.clear()

    def start(self, words: tuple[str, ...], scene: str = "large.tif", again: bool = False, **how: Any) -> Running:
        """Begins a run; `again` goes on with one that has ended before its time."""
        filled = {"url": self.served.url, "port": self.port, "folder": self.folder}
        filled["scheduler"] = f"tcp://127.0.0.1:{self.port}"
        typed = [word.format(**filled) for word in words]
        if again and self.verb.again:
            checkpoint = self.folder / self.verb.again[-1]
            typed += self.verb.again if checkpoint.suffix != ".ckpt" or checkpoint.is_file() else ()
        run = self.forker.start(typed, self.folder, environment=self.environment, **how)
        if not self.verb.service:
            return run
        remote = "--allow-private" in words and scene == "large.tif"
        return Asked(run, self.port, self.folder, f"{self.served.url}/scenes/{scene}" if remote else scene, again)

    def whole(self, words: tuple[str, ...]) -> Whole:
        """What these words give where nothing happens."""
        if words not in self.known:
            self.fresh()
            began, asked = time.monotonic(), self.requests
            done = self.start(words, below=str(self.out)).wait()
            if done.code != 0:
                raise LossError(f"without any fault it ended in {done.code}: {done.told[-2000:]}")
            seconds, requests = time.monotonic() - began, self.requests - asked
            written = self.folder / "operations"
            size = sum(file.stat().st_size for file in self.out.rglob("*") if file.is_file())
            count = int(written.read_text()) if written.is_file() else 0
            self.known[words] = Whole(self.result, seconds, count, size, requests)
            assert self.known[words].result
        return self.known[words]

    def nothing_lost(self, whole: Whole) -> None:
        """What stands under a final name is the earlier result or the right one, and inputs are as they were."""
        now = self.result
        for name, data in now.items():
            if data not in (self.before.get(name), whole.result.get(name)):
                raise LossError(
                    f"{name} stands under its final name, and is neither the earlier result nor the right one"
                )
        if gone := self.before.keys() - now.keys():
            raise LossError(f"{', '.join(sorted(gone))} of the earlier result is gone")

    def right(self, whole: Whole) -> None:
        """The result is the right one, and what an earlier one had beside it is still there."""
        self.nothing_lost(whole)
        now = self.result
        differ = [name for name in whole.result if now.get(name) != whole.result[name]]
        if differ:
            raise LossError(f"the result is another one than without the fault: {', '.join(differ[:5])}")
        lost = [name for name in self.before.keys() - whole.result.keys() if now.get(name) != self.before[name]]
        if lost:
            raise LossError(f"{', '.join(lost)} of the earlier result is lost")

    def ends_well(self, done: Ended, whole: Whole) -> str:
        """`right` or `refused`; anything else is a loss."""
        if done.code == 0:
            self.right(whole)
            return "right"
        if not done.sentence:
            raise LossError(f"it ended in {done.code} without one sentence of ours: {done.told[-2500:]}")
        self.nothing_lost(whole)
        return "refused"

    def goes_on(self, words: tuple[str, ...], whole: Whole) -> None:
        """After the fault the same command, which goes on where it can, ends in the right result."""
        self.calm()
        done = self.start(words, again=True).wait()
        if done.code != 0:
            raise LossError(f"after the fault it ended in {done.code}: {done.told[-2500:]}")
        self.right(whole)
        if _bytes(self.folder / "in") != _bytes(self.folder / "pristine"):
            raise LossError("an input was changed")


def _bytes(folder: Path) -> Content:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Callable[[int], None]]:
    """Makes a folder a file system of so many bytes; what is given changes them. Needs root's rights.

    Raises:
        PermissionError: these are not to be had.

    """

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise PermissionError(f"no small file system can be made here: {done.stderr.strip()}")

    if os.geteuid() != 0:
        raise PermissionError("no small file system can be made here: that takes root's rights")
    mount(f"size={max(size, 4096)}")
    try:
        yield lambda size: mount(f"remount,size={size}")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Asked:
    """A service that is started and asked for one map, until it has answered or ends."""

    def __init__(self, run: Run, port: int, folder: Path, scene: str, again: bool) -> None:
        self.run, self.pid, self.done = run, run.pid, None  # type: tuple[Run, int, Ended | None]
        self.client = Service(folder, [])
        self.client.port, self.client.url = port, f"http://127.0.0.1:{port}"
        self.kept = folder / "job"
        self.scene, self.again = scene, again
        self.killed = False
        self.beside: Asked | None = None
        """Another service on the same port, which may answer in this one's place until it is stopped."""
        self.thread = threading.Thread(target=self._ask, daemon=True)
        self.thread.start()

    def _ask(self) -> None:
        try:
            try:
                self.done = self._asked()
            except OSError:
                if self.beside is None or not self.beside.has_ended(within=10):
                    raise
                self.done = self._asked()
        except (OSError, ValueError, KeyError, AssertionError) as error:
            self.has_ended(within=5)  # one that was killed is not gone at once
            self.done = self.run.ended() or Ended(-1000, f"the service did not answer: {error!r}")
        if self.run.ended() is None:
            self._stop()

    def _asked(self) -> Ended:
        while (done := self.run.ended()) is None:
            try:
                self.client.get("/health")
                break
            except OSError:
                time.sleep(0.1)
        if done is not None:
            return done
        job = self.kept.read_text() if self.again and self.kept.is_file() else ""
        # A job that failed is asked for anew; one that was cut off goes on by itself.
        if not job or self.client.get(f"/jobs/{job}?f=json").json.get("status") in (None, "failed"):
            asked = {"scene": self.scene, "dates": ["2022-05-31"], "polygons": "none"}
            answer = self.client.execute("map-flood", asked, later=True)
            if answer.status != 201:
                return Ended(2, f"Error: {answer.json['detail']}\n")
            job = str(answer.json["jobID"])
            self.kept.write_text(job)
        status = self.client.ended(job)
        return Ended(0, "") if status["status"] == "successful" else Ended(2, f"Error: {status['message']}\n")

    def has_ended(self, within: float) -> bool:
        """Whether the service's process has ended, or does in so many seconds."""
        until = time.monotonic() + within
        while self.run.ended() is None and time.monotonic() < until:
            time.sleep(0.05)
        return self.run.ended() is not None

    def _stop(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
        until = time.monotonic() + 10
        while self.run.ended() is None:
            if time.monotonic() > until:
                self.run.kill()
            time.sleep(0.05)

    def ended(self) -> Ended | None:
        return self.done if not self.thread.is_alive() else None

    def wait(self, seconds: float = 180) -> Ended:
        self.thread.join(seconds)
        if self.thread.is_alive():
            self.run.kill()
            return Ended(-1000, f"it hung for {seconds:g} s")
        assert self.done is not None
        return Ended(-9, "") if self.killed else self.done

    def kill(self) -> None:
        self.killed = True
        self.run.kill()
