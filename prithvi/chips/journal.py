"""The state of an unfinished build: who builds, what the plan is, which parts are done.

While a store is built it has a folder `.build/`: `plan.json`, a folder for each staged unit (a tile), the store's new
files under `new/`, and `journal.jsonl` with a line for each complete shard. A killed build resumes from there; a
finished store has no such folder.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from prithvi.errors import DatasetError, OutputError
from prithvi.files import write_text

BUILD = ".build"
CONTENTS = "contents"
"""Key of a plan: what stands for the content of each unit's files, by the unit's key."""
SPLIT = "split"
"""Key of a plan: how chips come to their parts."""
BESIDE = "beside"
"""Key of a plan: whether the parts of what is appended were drawn with regard to those of the store."""
LATER = (CONTENTS, BESIDE, "sensor", "order", "scale", "offset", "nodata", "ignore")
"""Keys of a plan that the plans of older stores do not have."""


def differing(known: dict[str, Any], asked: dict[str, Any]) -> str:
    """The keys whose values differ, in words; what an older plan does not say contradicts nothing."""
    keys = known.keys() | {key for key in asked if key not in LATER}
    return ", ".join(sorted(key for key in keys if known.get(key) != asked.get(key)))


class Journal:
    """The build folder of one store."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.folder = store / BUILD
        self.new = self.folder / "new"
        self.staged = self.folder / "staged"
        self.file = self.folder / "journal.jsonl"

    def unfinished(self) -> bool:
        """Whether a build was started and is not finished."""
        return (self.folder / "plan.json").is_file()

    def plan(self) -> dict[str, Any]:
        """The plan of the unfinished build; empty where there is none that can be read."""
        plan: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            plan = json.loads((self.folder / "plan.json").read_text(encoding="utf-8"))
        return plan if isinstance(plan, dict) else {}

    def begin(self, plan: dict[str, Any]) -> None:
        """Resumes an unfinished build of the same plan, or starts one.

        Units that were cut from files that have changed since (been mended) are cut anew. Until a shard is written,
        another split by blocks may be asked for.

        Raises:
            DatasetError: an unfinished build of another plan, or of other files whose samples are in shards already.

        """
        if self.unfinished():
            known, contents = self.plan(), plan.get(CONTENTS, {})
            changed = [key for key, content in known.get(CONTENTS, {}).items() if contents.get(key) != content]
            stale = [self.staged / key for key in changed if (self.staged / key).is_dir()]
            if CONTENTS in known and not (stale and self.entries()):
                known[CONTENTS] = contents
            # Parts are drawn of what was cut: a split that left one of them empty is mended without cutting anew. A
            # column's parts are cut with the chips, and shards hold chips in the order of their parts.
            columns = [str(each.get(SPLIT)).startswith("column:") for each in (known, plan)]
            if known.get(SPLIT) != plan.get(SPLIT) and not (any(columns) or self.entries()):
                known[SPLIT] = plan.get(SPLIT)
                stale.append(self.new)
            differ = differing(known, plan)
            if differ:
                raise DatasetError(
                    f"{self.store} holds an unfinished build that differs in {differ}: finish it with the command it "
                    f"was begun with, or delete {self.folder}."
                )
            # What a killed writer had open under a name of its own: never read again.
            for leftover in (*stale, *self.folder.rglob("*.partial"), *self.folder.rglob("*.tmp")):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
        self.new.mkdir(parents=True, exist_ok=True)
        self.staged.mkdir(exist_ok=True)
        write_text(self.folder / "plan.json", json.dumps(plan, indent=1, sort_keys=True), sync=True)

    def note(self, entry: dict[str, Any]) -> None:
        """Adds a line that survives a crash of the machine."""
        text = json.dumps(entry, sort_keys=True)
        # A line that was cut by a crash would swallow the next one: begin on a new line.
        with self.file.open("a", encoding="utf-8") as file:
            file.write(("\n" if file.tell() else "") + text)
            file.flush()
            os.fsync(file.fileno())

    def entries(self) -> list[dict[str, Any]]:
        """All whole lines; the last may have been cut."""
        found = []
        text = self.file.read_text(encoding="utf-8", errors="replace") if self.file.is_file() else ""
        for line in text.splitlines():
            with suppress(ValueError):
                entry = json.loads(line)
                found += [entry] if isinstance(entry, dict) else []
        return found

    def end(self) -> None:
        """Removes everything, the plan last, so that an interrupted clean-up is repeated."""
        for path in self.folder.iterdir():
            if path.name not in ("plan.json", "lock", "holder.json"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        (self.folder / "plan.json").unlink()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Locks the store for this process; the system releases the lock when the process ends, even by a kill.

        Raises:
            DatasetError: another process holds it; the message names it.
            OutputError: the folder cannot be written.

        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.store} cannot be made ({error.strerror}): choose another place (-o).") from error
        # The lock is the system's: it ends with the process, so none is ever stale. `holder.json` only says who it is.
        holder, path = self.folder / "holder.json", self.folder / "lock"
        held = filelock.FileLock(path, timeout=0)
        try:
            held.acquire()
        except filelock.Timeout as error:
            who = "another process"
            with suppress(OSError, ValueError):
                who = "process {pid} on {host} ({command})".format(**json.loads(holder.read_text(encoding="utf-8")))
            raise DatasetError(f"{self.store} is being built by {who}: wait for it, or stop it.") from error
        try:
            mine = {"pid": os.getpid(), "host": socket.gethostname(), "command": " ".join(sys.argv)}
            write_text(holder, json.dumps(mine), sync=True)
            yield
        finally:
            holder.unlink(missing_ok=True)
            if self.folder.is_dir() and not self.unfinished():
                path.unlink(missing_ok=True)
            held.release()
            if self.folder.is_dir() and not any(self.folder.iterdir()):
                self.folder.rmdir()
                if not any(self.store.iterdir()):
                    self.store.rmdir()
