"""Printing for people: how wide, and text of others without what would upset a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

_WIDTH = 120  # of lines that go to a file or a pipe


def console() -> Console:
    """Standard output: as wide as the terminal, or a fixed width where there is none."""
    found = Console()
    return found if found.is_terminal else Console(width=_WIDTH)


def line(text: str, longest: int = 120) -> str:
    """Text of others on one line: cut, without control characters, safe to print as markup."""
    shown = "".join(c if c.isprintable() else "⏎" if c == "\n" else "·" for c in text)
    return escape(shown if len(shown) <= longest else shown[: longest - 1] + "…")
