"""One bar for long work: drawn on a terminal, a plain line a tenth elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar:
    """Context manager; call it with the work done and the whole."""

    def __init__(self, title: str) -> None:
        self.title = title
        console = Console(stderr=True)
        self.drawn = console.is_terminal
        self.console = console
        self.tenth = -1
        self.progress = Progress(
            TextColumn("  {task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f}%"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console, disable=not self.drawn,
        )  # fmt: skip
        self.task = self.progress.add_task(title, total=None)

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __call__(self, done: int, whole: int) -> None:
        """Moves the bar."""
        self.progress.update(self.task, completed=done, total=whole)
        tenth = 10 * done // max(whole, 1)
        if not self.drawn and tenth > self.tenth:
            self.tenth = tenth
            self.console.print(f"  {self.title} {10 * tenth}%", highlight=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()
