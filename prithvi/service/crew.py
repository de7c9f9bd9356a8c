"""Processes that do the work, a queue of stated length before them, and what becomes of jobs whose process ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from prithvi.errors import OutputError, counted
from prithvi.files import dumps
from prithvi.service.job_store import Jobs, now
from prithvi.service.places import Places
from prithvi.service.settings import RefusedError, Settings

_USUAL = 30.0
"""Seconds of a job where none has ended yet."""
_ATTEMPTS = 2
"""How often a job is begun whose service was ended while it ran."""


class Crew:
    """A thread for each worker; it starts its process with a job and ends it when there was none for a while."""

    def __init__(self, settings: Settings, jobs: Jobs) -> None:
        self.settings, self.jobs = settings, jobs
        self.waiting: deque[str] = deque()
        self.running: dict[str, subprocess.Popen[str] | None] = {}
        self.loaded: set[int] = set()
        """Numbers of the processes that are there."""
        self.changed = threading.Condition()
        self.seconds = deque([_USUAL], maxlen=20)
        self.places = Places(settings.folders, settings.hosts, settings.private_hosts)

    def start(self) -> None:
        """Takes over the jobs of a service that ended, and begins."""
        self.jobs.tidy()
        for job in reversed(self.jobs.all()):
            if job["status"] not in ("accepted", "running"):
                continue
            name = job["identifier"]
            if not job.get("async") or job.get("attempts", 0) >= _ATTEMPTS:
                self._fail(name, "the service was ended while this job ran; ask again.", 500, "NoApplicableCode")
            else:
                self.jobs.write(name, status="accepted", message="Waiting again, as the service was ended.")
                self.waiting.append(name)
        for number in range(self.settings.workers):
            threading.Thread(target=self._work, name=f"worker {number}", daemon=True).start()

    def retry_after(self) -> int:
        """Seconds after which there may be room."""
        return max(1, round(sum(self.seconds) / len(self.seconds) / self.settings.workers))

    def submit(self, job: str) -> None:
        """Puts a job at the end of the queue.

        Raises:
            RefusedError: the queue is full.

        """
        with self.changed:
            if len(self.waiting) + len(self.running) >= self.settings.queue + self.settings.workers:
                raise RefusedError(
                    f"{len(self.running)} jobs run and {len(self.waiting)} wait, which is all that this service takes: "
                    f"ask again in {counted(self.retry_after(), 'second')}.",
                    503, "ServerBusy",
                )  # fmt: skip
            self.waiting.append(job)
            self.changed.notify_all()

    def wait(self, job: str) -> None:
        """Until a job has ended or was dismissed."""
        with self.changed:
            self.changed.wait_for(lambda: job not in self.waiting and job not in self.running)

    def dismiss(self, job: str) -> None:
        """Takes a job out of the queue, or ends the process that runs it, and waits until that is done."""
        with self.changed:
            if job in self.waiting:
                self.waiting.remove(job)
            elif job in self.running:
                self.jobs.note(job, status="dismissed")
                process = self.running[job]
                if process is not None:
                    process.kill()
                self.changed.wait_for(lambda: job not in self.running, timeout=30)
            self.changed.notify_all()

    def _next(self, seconds: float | None) -> str | None:
        with self.changed:
            if not self.changed.wait_for(lambda: bool(self.waiting), timeout=seconds):
                return None
            job = self.waiting.popleft()
            self.running[job] = None
            return job

    def _work(self) -> None:
        process: subprocess.Popen[str] | None = None
        while True:
            job = self._next(self.settings.idle if process is not None else None)
            if job is None:
                self._end(process)
                process = None
                continue
            begun = time.monotonic()
            try:
                if process is None or process.poll() is not None:
                    process = self._begin()
                self._run(job, process)
            except OutputError as error:
                self._fail(job, *unwritable(error))
                self._end(process)
                process = None
            except Exception:  # noqa: BLE001 - whatever it is, the thread goes on and the job says that it failed
                self._fail(job, "the service could not run this job; its log says why.", 500, "NoApplicableCode")
                self._end(process)
                process = None
                sys.excepthook(*sys.exc_info())
            finally:
                self.seconds.append(time.monotonic() - begun)
                self.jobs.prune(self.settings.keep)
                with self.changed:
                    del self.running[job]
                    self.changed.notify_all()
            if process is not None and process.poll() is not None:
                self._end(process)
                process = None

    def _begin(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "prithvi.service.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, encoding="utf-8", env={**os.environ, "OMP_WAIT_POLICY": "passive"}, cwd=self.settings.state,
        )  # fmt: skip
        self.loaded.add(process.pid)
        self._say(process, {
            "folders": list(map(str, self.settings.folders)), "hosts": list(self.settings.hosts),
            "private_hosts": list(self.settings.private_hosts), "max_pixels": self.settings.max_pixels,
            "device": self.settings.device, "engine": self.settings.engine, "batch_size": self.settings.batch_size,
        })  # fmt: skip
        return process

    def _end(self, process: subprocess.Popen[str] | None) -> None:
        if process is None:
            return
        if process.stdin is not None:
            with suppress(BrokenPipeError):  # of what it was told and did not read before it died
                process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        self.loaded.discard(process.pid)

    @staticmethod
    def _say(process: subprocess.Popen[str], plain: dict[str, Any]) -> None:
        assert process.stdin is not None
        process.stdin.write(dumps(plain) + "\n")
        process.stdin.flush()

    def _run(self, job: str, process: subprocess.Popen[str]) -> None:
        with self.changed:
            record = self.jobs.read(job)
            if record["status"] == "dismissed":
                return
            self.running[job] = process
            attempts = record.get("attempts", 0) + 1
            self.jobs.write(job, status="running", started=now(), attempts=attempts, message="Running.", progress=0)
        work = self.jobs.begin(job)
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self.settings.timeout, stop)
        timer.daemon = True
        timer.start()
        try:
            self._say(process, {**record["request"], "folder": str(work), "resume": attempts > 1})
            assert process.stdout is not None
            answer = self._listen(job, process.stdout)
        except BrokenPipeError:
            answer = None
        finally:
            timer.cancel()
        if answer is None:
            process.wait()
            dismissed = self.jobs.read(job)["status"] == "dismissed"
            if late.is_set():
                said = f"stopped after {self.settings.timeout:,.0f} seconds, the most that a job may take."
            elif process.returncode == -9 and not dismissed:
                said = "its process was killed, as happens where memory ends: ask for a smaller part of the scene."
            else:
                said = f"its process ended (status {process.returncode}); the service's log says why."
            self._fail(job, said, 500, "NoApplicableCode")
        elif "error" in answer:
            self._fail(job, answer["error"], answer["status"], answer["code"])
        else:
            self.jobs.publish(job)
            self.jobs.note(
                job, status="successful", finished=now(), message="Done.", progress=100, results=answer["results"]
            )

    def _listen(self, job: str, lines: IO[str]) -> dict[str, Any] | None:
        """The worker's answer to a job; None if it ends without one. Its progress is noted once a per cent."""
        noted = 0
        for line in lines:
            answer: dict[str, Any] = json.loads(line)
            if "progress" not in answer:
                return answer
            percent = min(99, int(answer["progress"]))
            if percent > noted and self.jobs.read(job)["status"] == "running":
                noted = percent
                self.jobs.note(job, progress=percent)
        return None

    def _fail(self, job: str, message: str, status: int, code: str) -> None:
        shutil.rmtree(self.jobs.work(job), ignore_errors=True)
        with suppress(KeyError):  # it was removed meanwhile
            if self.jobs.read(job)["status"] == "dismissed":
                return
            failure = {"status": status, "code": code}
            self.jobs.note(job, status="failed", finished=now(), message=message, failure=failure)


def unwritable(error: OutputError) -> tuple[str, int, str]:
    """What a client is told where the service's folder takes nothing: a sentence without its path, and its codes."""
    why = getattr(error.__cause__, "strerror", None) or "it cannot be written"
    return f"the service has no room for this job ({why}): ask again later.", 507, "NoApplicableCode"


def memory_of(pid: int) -> int:
    """Bytes of memory of a process; 0 where the system does not say."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGESIZE")
