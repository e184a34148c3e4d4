"""What people see while something runs: a live table on a terminal, plain lines elsewhere, and verdicts."""

import sys
import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

WIDTH = 110
"""Columns, where there is no terminal to ask, and of what is quoted."""


def make_console() -> Console:
    """A console as wide as the terminal, or of a fixed width where there is none."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)


class Show:
    """The story as it goes, the table, and how many of the claims were true."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.start = time.time()
        self.failures: list[str] = []
        self.skipped: list[str] = []
        self.passed = 0
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, words: str, style: str = "") -> None:
        """A line of the story, with the time since the start."""
        stamp = f"{time.time() - self.start:6.1f} s  "
        self.console.print(Text(stamp, style="dim") + Text(words, style=style), soft_wrap=True)

    def quote(self, lines: list[str]) -> None:
        """Something that arrived, as it reads."""
        for line in lines:
            shown = line if len(line) <= WIDTH else f"{line[:WIDTH]}…"
            self.console.print(Text(f"          │ {shown}", style="cyan"), soft_wrap=True)

    def check(self, ok: bool, sentence: str, otherwise: object = "") -> bool:
        """A verdict: the sentence is true, or here is what was seen instead."""
        if ok:
            self.passed += 1
            self.say(f"✓ {sentence}", "green")
        else:
            self.failures.append(sentence)
            self.say(f"✗ NOT SO: {sentence}" + (f" (seen: {otherwise})" if otherwise != "" else ""), "bold red")
        return ok

    def skip(self, sentence: str, why: str) -> None:
        """Something that cannot be checked here."""
        self.skipped.append(sentence)
        self.say(f"· not checked: {sentence} ({why})", "yellow")

    def draw(self, table: Callable[[], Table]) -> None:
        """Redraw the table, where there is a terminal to draw it on."""
        if self._live:
            self._live.update(table(), refresh=True)
