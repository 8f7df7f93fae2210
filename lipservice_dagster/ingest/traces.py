"""Stack traces over several lines: which line goes on with the log before it. Pure; lines are octets.

A line goes on with the one before it where it has no time of its own and is indented, or reads like a part of a trace
of Python, Java, Go, JavaScript, Ruby, Rust, PHP or .NET. The head of a trace ("Traceback …", "java.io.IOException: …")
goes with a log that warns or worse, and begins a log of its own, an error, behind any other: a crash must not hide in
the last thing that was said before it.
"""

from __future__ import annotations

import re
from enum import Enum

_EXCEPTION = (
    rb"(?:[\w$]+(?:\.|::|\\))*[A-Z][\w$]*(?:Error|Exception|Throwable|Fault|Interrupt)"
    rb"(?::\s|:?\s*\Z)|[A-Z]\w*(?:::[A-Z]\w*)+ \(.*\):\s*\Z"  # the last is Rails'
)
# "a.rb:1:in `f'", and of what nobody caught the first one goes on: "a.rb:1:in `f': boom (RuntimeError)".
_RUBY = re.compile(rb"[\w./\-<>()]{1,400}:\d+:in [`'](?:[^`']*': .*(\([\w:]+\))\s*\Z)?")
# As most lines begin that have a time, and none of a trace.
_ELSEWHERE = frozenset(b"%c" % sign for sign in b"0123456789[<")
_PANIC_HEAD = rb"panic: |fatal error: |thread '[^']*' (?:\(\d+\) )?panicked at "
_HEAD = re.compile(
    rb"Traceback \(most recent call last\):|\s*\+ Exception Group Traceback \(most recent call last\):"
    rb"|Exception in thread "
    rb"|Unhandled exception|Uncaught "
    rb"|goroutine \d+ \["
    rb"|" + _PANIC_HEAD + rb"|" + _EXCEPTION
)
_PANIC = re.compile(_PANIC_HEAD)
# What stands in a trace and nowhere else.
_PART = re.compile(
    rb"Caused by: |Suppressed: |\.\.\. \d+ (?:more|common frames)"
    rb"|During handling of the above exception|The above exception was the direct cause"
    rb"|at [\w$.<>/]+\(|at (?:async |new )?[\w$.<>]+ (?:\[as [\w$]+\] )?\((?:/|[\w+\-]+:|<anonymous>)"
    rb"|from [\w./\-]+:\d+:in |File \"[^\"]+\", line \d"
    rb"|--- End of |goroutine \d+ \[|created by [\w./]+|\[signal |exit status \d"
    rb"|stack backtrace:|note: run with `RUST_BACKTRACE"
    rb"|Stack trace:\s*\Z|#\d+ (?:\{main\}|\[internal function\]|\S+\(\d+\): )"
    rb"|Node\.js v\d"
)
# main.(*T).run(0xc0, 0x1), as Go writes them.
_CALL = re.compile(rb"[\w./*()\-]+\([^)]*\)(?: in goroutine \d+)?\s*\Z")
_WARNS = frozenset(("warn", "error", "fatal"))
_TRACEBACK = b"Traceback (most recent call last):"
_MESSAGE_BELOW = re.compile(rb"thread '[^']*' (?:\(\d+\) )?panicked at \S+:\d+:\d+:\s*\Z")
_MANY_LINES = re.compile(rb"[\w.]+: \d+ validation errors? for ")
_LAST_LINE = re.compile(rb"([A-Za-z_][\w.]*)(?::\s|:?\s*\Z)")
_LEVELS = re.compile(rb"(?i:trace|debug|info|notice|warn|warning|error|err|critical|fatal)\Z")


class Place(Enum):
    """Where a log that is read line by line has got to."""

    OUTSIDE = 0
    INSIDE = 1
    """In a trace."""
    CALLED = 2
    """Behind the first line of Python's."""
    FRAMES = 3
    """Among Python's frames: the next line that is not indented tells the exception, whatever it is called."""
    PANICKED = 4
    """Behind the first line of Rust's: the next one says why."""
    MESSAGE = 5
    """In an exception's message that has several lines."""
    TOLD = 6
    """Behind the exception that ends Python's."""

    @property
    def is_open(self) -> bool:
        """Whether the line that tells what happened must still come."""
        return self in (Place.CALLED, Place.FRAMES, Place.PANICKED)


def trace_severity(line: bytes) -> str | None:
    """The severity of a line that is the head of a trace, else None."""
    if not _is_head(line):
        return None
    return "fatal" if _PANIC.match(line) else "error"


def goes_on(line: bytes, severity: str | None, place: Place) -> bool:
    """Whether a line without a time of its own goes on with the log before it.

    ``severity`` and ``place`` are that log's.
    """
    if place in (Place.FRAMES, Place.PANICKED, Place.MESSAGE):
        return True
    head = _is_head(line)
    if not head and line[:1] in b" \t":  # an empty line is no line
        return True
    if place is Place.OUTSIDE:
        return severity in _WARNS and (head or _is_part(line))
    if head:
        # A crash, or Python's next trace behind one that is told, has nothing to do with what is before it.
        return not (_PANIC.match(line) or (place is Place.TOLD and line.startswith(_TRACEBACK)))
    return _CALL.match(line) is not None or _is_part(line) or line.rstrip() == b"}"


def tells(line: bytes, place: Place) -> bool:
    """Whether a line tells an exception though it has a time or a level in it: ``KeyError: '2024-05-06 …'``."""
    if place is not Place.FRAMES:
        return place is Place.PANICKED
    name = _LAST_LINE.match(line)
    return name is not None and _LEVELS.match(name[1]) is None


def place_after(line: bytes, place: Place) -> Place:
    """Where a log at ``place`` has got to with its next line; before its first it is OUTSIDE."""
    if place is Place.OUTSIDE and line[:1] in _ELSEWHERE:
        return place
    if line.startswith(_TRACEBACK):
        return Place.CALLED
    if line.startswith(b"thread '") and _MESSAGE_BELOW.match(line):
        return Place.PANICKED
    if place is Place.PANICKED:
        return Place.INSIDE
    if line[:1] in b" \t":
        if place is Place.CALLED:
            return Place.FRAMES
        return Place.INSIDE if place is Place.OUTSIDE and is_of_trace(line) else place
    if place is Place.FRAMES:
        return Place.MESSAGE if _MANY_LINES.match(line) else Place.TOLD
    if place is Place.OUTSIDE or place is Place.TOLD:
        return Place.INSIDE if is_of_trace(line) else place
    return place


def is_of_trace(line: bytes) -> bool:
    """Whether a line is one that stands in a trace."""
    return line[:1] not in _ELSEWHERE and (_is_head(line) or _is_part(line.lstrip()))


def _is_head(line: bytes) -> bool:
    if _HEAD.match(line):
        return True
    found = _RUBY.match(line) if b":in " in line else None
    return found is not None and found[1] is not None


def _is_part(line: bytes) -> bool:
    return _PART.match(line) is not None or (b":in " in line and _RUBY.match(line) is not None)
