"""Stack traces over several lines: which line goes on with the log before it. Pure; lines are octets.

A line goes on with the one before it where it has no time of its own and is indented, or reads like a part of a trace
of Python, Java, Go, JavaScript, Ruby, Rust or .NET. The head of a trace ("Traceback …", "java.io.IOException: …") goes
with a log that warns or worse, and begins a log of its own, an error, behind any other: a crash must not hide in the
last thing that was said before it.
"""

from __future__ import annotations

import re

_EXCEPTION = rb"(?:[\w$]+\.)*[A-Z][\w$]*(?:Error|Exception|Throwable|Fault|Interrupt)(?::\s|:?\s*\Z)"
_HEAD = re.compile(
    rb"Traceback \(most recent call last\):"
    rb"|Exception in thread "
    rb"|Unhandled exception|Uncaught "
    rb"|panic: |fatal error: |thread '[^']*' panicked at "
    rb"|" + _EXCEPTION
)
_PANIC = re.compile(rb"panic: |fatal error: |thread '")
# What stands in a trace and nowhere else.
_PART = re.compile(
    rb"Caused by: |Suppressed: |\.\.\. \d+ (?:more|common frames)"
    rb"|During handling of the above exception|The above exception was the direct cause"
    rb"|at [\w$.<>/]+\(|from [\w./\-]+:\d+:in "
    rb"|--- End of |goroutine \d+ \[|created by [\w./]+|\[signal |exit status \d"
    rb"|stack backtrace:|note: run with `RUST_BACKTRACE"
)
# main.(*T).run(0xc0, 0x1), as Go writes them.
_CALL = re.compile(rb"[\w./*()\-]+\([^)]*\)(?: in goroutine \d+)?\s*\Z")
_WARNS = frozenset(("warn", "error", "fatal"))


def trace_severity(line: bytes) -> str | None:
    """The severity of a line that is the head of a trace, else None."""
    if _HEAD.match(line) is None:
        return None
    return "fatal" if _PANIC.match(line) else "error"


def goes_on(line: bytes, severity: str | None, in_trace: bool) -> bool:
    """Whether a line without a time of its own goes on with the log before it.

    ``severity`` is that of the log, ``in_trace`` whether the line of a trace is in it already.
    """
    if line[:1] in b" \t":  # an empty line is no line
        return True
    if in_trace and _CALL.match(line):
        return True
    if _PART.match(line):
        return in_trace or severity in _WARNS
    return _HEAD.match(line) is not None and (in_trace or severity in _WARNS)


def is_of_trace(line: bytes) -> bool:
    """Whether a line is one that stands in a trace."""
    return _HEAD.match(line) is not None or _PART.match(line.lstrip()) is not None
