"""The decision: at which rate is this log kept, and why.

One code for the edge (SDK), for the backtest that replays a policy over days it has not seen, and for the expected
effect written into a policy. It works over the plain mappings of the policy document and its overlay
(`lipservice_sampler.overlay`) and keeps no state: who decides passes what it knows (how often an unknown pattern was
seen this hour, what time it is), so the same inputs give the same decision everywhere.

Order, first that applies:

1. ``override`` — what a person says must never be sampled is kept whole.
2. ``error`` — severities error and fatal are kept whole, whatever the documents say.
3. ``error_like`` — so are messages at lower severities that read like an error, unless a person lifted that.
4. ``pattern`` — the rate of the message's signature.
5. ``unknown`` — of a pattern the policy does not list, the first ``unknown.first_per_hour`` logs of an hour are kept.
6. ``severity`` — the rate of the severity.
7. ``global`` — the rate of everything else.

What steps 4 to 7 give is multiplied by a boost in force, up to 1 (``boost``, where that changed it), and then a
person's cap holds (``override``, where it was lower). So a cap touches no error, nor what reads like one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from .overlay import NOTHING, Overlay

ERROR_SEVERITIES = frozenset({"error", "fatal"})

SEVERITY_NAMES: Mapping[str, str] = {
    **{name: name for name in ("trace", "debug", "info", "warn", "error", "fatal")},
    # OpenTelemetry's short names: ERROR to ERROR4, FATAL to FATAL4.
    **{f"{name}{step}": name for name in ("trace", "debug", "info", "warn", "error", "fatal") for step in (2, 3, 4)},
    # One letter, as glog, klog and Android write, and three, as zerolog and Serilog do.
    **dict(zip("vtdiwefc", ("trace", "trace", "debug", "info", "warn", "error", "fatal", "fatal"), strict=True)),
    "vrb": "trace",
    "trc": "trace",
    "dbg": "debug",
    "inf": "info",
    "wrn": "warn",
    "ftl": "fatal",
    "pnc": "fatal",
    "verbose": "trace",
    "fine": "debug",
    "notice": "info",
    "information": "info",
    "informational": "info",
    "warning": "warn",
    "err": "error",
    "severe": "error",
    "critical": "fatal",
    "crit": "fatal",
    "alert": "fatal",
    "emerg": "fatal",
    "emergency": "fatal",
    "panic": "fatal",
    "fault": "fatal",
}
"""What loggers write, and the severity it is; what is not listed is info, as PostHog stores it."""

# A word counts where it stands by itself. As part of an identifier, a path or a file name (error_rate, on_error,
# /errors/404, error.log, fail-safe) it names a thing and reports nothing.
_ALONE = r"(?<![\w/.])(?:{})(?![/-]?\w|\.\w)"
# At the end of a name it reports one (job_failed, PAYMENT_FAILED, db_error), unless that names a handler or a limit.
_ENDING = (
    r"(?<![\w/.-])(?!(?:on|is|has|no|non|if|when|ignore|skip|max|min|allow|log|handle|raise|retry)_)"
    r"[a-z]\w*_(?:{})(?![-/]?\w|\.\w|\()"
)
_OUTCOME = r"(?:aborted|cancell?ed|crashed|failed|killed|rejected|rolled|skipped|stopped)\b"
_DO = (
    r"(?:re)?(?:connect|open|read|write|bind|resolve|reach|allocate|load|access|create|delete|parse|start|send|receive"
    r"|establish|acquire|complete|process|save|store|fetch|authenticate|commit|execute|initiali[sz]e)\b"
)

ERROR_LIKE: tuple[tuple[str, str], ...] = (
    ("error", _ALONE.format(r"errors?|errored")),
    ("error", r"(?-i:[A-Za-z]Errors?\b)"),  # TypeError, IOError
    ("error", r"(?<![\w/.])error_?(?:codes?|messages?|msg)(?=[\"']?\s*[=:])"),  # error_code=E42
    ("error", _ENDING.format(r"errors?")),
    ("err", _ALONE.format(r"err")),
    ("exception", r"(?<!/)exceptions?(?![-/_]?\w)"),  # also NullPointerException
    ("fail", _ALONE.format(r"fail(?:ed|s|ing|ures?)?")),
    ("fail", _ENDING.format(r"fail(?:ed|ures?)")),
    ("fail", rf"(?<![\w/.])failed/{_OUTCOME}"),
    ("abort", rf"(?<![\w/.])aborted/{_OUTCOME}"),
    ("fatal", _ALONE.format(r"fatal(?:ity|ly)?")),
    ("panic", _ALONE.format(r"panic(?:s|ked|king)?")),
    ("traceback", r"\btracebacks?\b"),
    ("stack", r"\bstack[ _-]?traces?\b"),
    ("crash", _ALONE.format(r"crash(?:ed|es|ing)?|crashloopbackoff")),
    ("segfault", r"\bsegfault(?:s|ed)?\b"),
    ("segmentation", r"\bsegmentation (?:fault|violation)\b"),
    ("sigsegv", r"\bsigsegv\b"),
    ("core dump", r"\bcore dump(?:ed)?\b"),
    ("memory", r"\bout[ _-]of[ _-]memory\b"),
    ("outofmemory", r"outofmemory"),
    ("oom", r"\boom[ _-]?kill(?:ed|er|ing)?\b"),
    ("deadlock", _ALONE.format(r"deadlock(?:s|ed)?")),
    ("unhandled", r"\bunhandled\b"),
    ("uncaught", r"\buncaught\b"),
    ("abort", _ALONE.format(r"abort(?:ed|ing)")),
    ("timed out", r"\btimed out\b"),
    ("refused", r"\bconnection refused\b"),
    ("reset by peer", r"\breset by peer\b"),
    ("could", rf"\bcould(?: not|n't) {_DO}"),
    ("cannot", rf"\bcannot {_DO}"),
    ("unable", rf"\bunable to {_DO}"),
    ("unexpected", r"\bunexpected (?:eof|end of (?:file|input|stream|data))\b"),
    # Names of system errors; EAGAIN, EINTR and the like are everyday life.
    ("econn", r"(?-i:\bECONN(?:REFUSED|RESET|ABORTED)\b)"),
    ("unreach", r"(?-i:\bE(?:HOST|NET)UNREACH\b)"),
    ("etimedout", r"(?-i:\bETIMEDOUT\b)"),
    ("eno", r"(?-i:\bENO(?:ENT|SPC|MEM|TFOUND|TCONN|TDIR|DEV|BUFS|SYS|EXEC|LCK|TEMPTY)\b)"),
    ("eaddr", r"(?-i:\bEADDR(?:INUSE|NOTAVAIL)\b)"),
    ("eai_", r"(?-i:\bEAI_[A-Z]+\b)"),
    ("emfile", r"(?-i:\bEMFILE\b)"),
    ("enfile", r"(?-i:\bENFILE\b)"),
    ("epipe", r"(?-i:\bEPIPE\b)"),
    ("eacces", r"(?-i:\bEACCES\b)"),
    ("eperm", r"(?-i:\bEPERM\b)"),
    ("einval", r"(?-i:\bEINVAL\b)"),
    ("erofs", r"(?-i:\bEROFS\b)"),
    ("edquot", r"(?-i:\bEDQUOT\b)"),
    ("eproto", r"(?-i:\bEPROTO\b)"),
    ("eio", r"(?-i:\bEIO\b)"),
)
"""What reads like an error: text the lower-cased message must hold (cheap to rule out), and the expression to match."""

ERROR_WORD = (
    r"(?:err|errors?|exceptions?|fail(?:ed|s|ing|ures?)?|fatal|panics?|panicked|crash(?:ed|es)?|deadlocks?|aborted|"
    r"tracebacks?)"
)
"""A word that reports an error, in what may take it back."""
_COUNTED = r"(?:errors|exceptions|failures|fails|panics|crashes|deadlocks|tracebacks)"
# Only kinds of error may stand between the negation and the word: "no such host: failed" reports one.
_KIND = (
    r"(?:(?:more|new|further|other|known|fatal|critical|serious|major|minor|internal|unhandled|uncaught|runtime|"
    r"validation|parse|build|tests?|server|client|network|jobs?|tasks?)[\s-]+)?"
)
_ZERO = r"(?:0+(?:\.0+)?%?|false|n/a|\[\]|\{\})"
# Words may follow that make an error of it: nil pointer dereference.
_NULL = r"(?:null|none|nil)"

NEGATED: tuple[str, ...] = (
    # no errors, without any fatal error, non-fatal, zero test failures
    rf"\b(?:no|without|without any|zero|non)[\s-]+{_KIND}{ERROR_WORD}\b",
    # not an error, never failed
    rf"\b(?:not|never|isn't|hasn't|didn't)\s+(?:an?\s+)?{ERROR_WORD}\b",
    # found 0 errors; <*> errors
    rf"(?:(?<![\w.])0+|<\*>)\s+{_KIND}{_COUNTED}\b",
    # 12 passed, 0 failed; but not after a plain word: "worker 0 failed" reports one
    rf"(?:^|[,;:(\[|/]\s*|\b(?:with|and|had|were|was)\s+)0+\s+{_KIND}{ERROR_WORD}\b",
    # <*> passed, <*> failed
    rf"[,;(\[|]\s*<\*>\s+{_KIND}{ERROR_WORD}\b",
    # passed: <*>, failed: <*>
    rf"(?:^|[,;(\[|]\s*|(?<=<\*>\s))(?:failed|{_COUNTED}):\s*<\*>(?=\s*(?:$|[,;|)\]]|\w+[:=]))",
)
"""Expressions for a phrase that takes such a word back: it is cut out before looking again.

A value that is masked may be 0 or null, or not. Where it alone says which, the word does not count."""

_OF = r"(?:[\s_-](?:count|rate|ratio|total))?"
NEGATING: tuple[str, ...] = (
    # errors: 0, fatal=false, error count: 0, "error": null
    rf"""{_OF}["']?\s*[=:]\s*["']?{_ZERO}(?=["']?\s*(?:$|[,;|&)\]}}]|\w+["']?[=:]))""",
    rf"""{_OF}["']?\s*[=:]\s*["']?{_NULL}(?=["']?\s*(?:$|[,;|&)\]}}]|\w+=))""",
    # error="", failed=0 and more text
    r"""["']?\s*[=:]\s*(?:""|\'\')""",
    rf"={_ZERO}(?=\s)",
    # error rate: <*>, failed=<*>, "error": <*>
    r"[\s_-](?:count|rate|ratio|total)\s*[=:]\s*<\*>",
    r"""(?:=["']?|["']\s*[:=]\s*["']?)<\*>(?=["']?(?:[\s,;|&)\]}]|$))(?!\s+(?:pointer|reference|dereference)\b)""",
    r"-free\b",
)
"""Expressions for what right after such a word takes it back, likewise."""


class Decision(NamedTuple):
    """The rate (the probability to keep, in [0, 1]) and the step that gave it, a word of the module's list."""

    rate: float
    reason: str


def severity_name(severity: str) -> str:
    """One of trace, debug, info, warn, error, fatal, for any spelling; unknown text is info."""
    name = SEVERITY_NAMES.get(severity)
    return name if name is not None else SEVERITY_NAMES.get(severity.strip().lower(), "info")


def indexed(policy: Mapping[str, Any]) -> dict[str, Any]:
    """The policy with ``pattern_rates`` as a mapping from signature, for many decisions over one document.

    `decide` takes either form and gives the same; over the document as it is, it searches the list.
    """
    patterns = policy.get("pattern_rates", ())
    if isinstance(patterns, Mapping):
        return dict(policy)
    return {**policy, "pattern_rates": {entry["signature"]: entry for entry in patterns}}


_FLAGS = re.ASCII | re.IGNORECASE
_RULES = tuple((stem, re.compile(expression, _FLAGS)) for stem, expression in ERROR_LIKE)
_NEGATED = re.compile(
    "|".join((*NEGATED, rf"(?<![^\W_]){ERROR_WORD}(?:_?(?:codes?|messages?|msg))?(?:{'|'.join(NEGATING)})")), _FLAGS
)


def error_like(message: str) -> bool:
    """Whether a message, raw or masked, reads like an error: it holds a word of `ERROR_LIKE` that is not taken back.

    Words in identifiers, negations (``no errors``, ``failed=0``, ``"error": null``) and fields whose value is masked
    (``<*> errors``, ``error=<*>``) do not count: of those the raw message tells, which the edge reads. Else in doubt it
    says True: a log kept for nothing costs its bytes, an error lost is lost.
    """
    return _hit(message) and _hit(_NEGATED.sub(" ; ", message))


def _hit(message: str) -> bool:
    lowered = message.lower()
    return any(stem in lowered and rule.search(message) is not None for stem, rule in _RULES)


def decide(
    policy: Mapping[str, Any],
    severity: str,
    signature: str | None,
    body_error_like: bool,
    *,
    unknown_seen: int = 0,
    overlay: Overlay | Mapping[str, Any] | None = None,
    masked: str | None = None,
    at: datetime | None = None,
) -> Decision:
    """The rate this log is kept at, and the step that gave it.

    Args:
        policy: the policy document as parsed JSON, or what `indexed` made of it.
        severity: in any spelling `severity_name` reads.
        signature: of the template the masked message matches, or None where it matches none.
        body_error_like: what `error_like` says. At the edge of the message as it was logged, where values are still to
            be seen (``failed=0`` and ``failed=3`` share a masked message); elsewhere of the masked message.
        unknown_seen: how many logs of this unknown pattern were decided before it in the same UTC hour. Not read for
            listed patterns. With the default a first log is meant, which is kept.
        overlay: the overlay document as parsed JSON, or an `Overlay` made of it for many decisions; none: nothing is
            said on top.
        masked: the masked message, which entries of the overlay that name a template are matched with.
        at: the time of the decision, with a time zone; an overlay's entries are in force until theirs.

    Raises:
        KeyError: the document has no ``global_rate``.
        ValueError: an overlay without the time it is read at, or one that is not valid (see `Overlay`).
    """
    said = NOTHING
    if overlay is not None:
        if at is None:
            raise ValueError("an overlay is in force at some time: pass the time of the decision as at")
        said = (overlay if isinstance(overlay, Overlay) else Overlay(overlay)).ruling(signature, masked, at)
    if said.never_sample:
        return Decision(1.0, "override")
    name = severity_name(severity)
    if name in ERROR_SEVERITIES:
        return Decision(1.0, "error")
    if body_error_like and not said.lifted:
        return Decision(1.0, "error_like")
    rate, reason = _by_policy(policy, name, signature, unknown_seen)
    boosted = min(rate * said.boost, 1.0)
    if said.cap < boosted:
        return Decision(said.cap, "override")
    return Decision(boosted, "boost") if boosted > rate else Decision(rate, reason)


def _by_policy(policy: Mapping[str, Any], severity: str, signature: str | None, unknown_seen: int) -> Decision:
    """What the document alone says of a log that is no error."""
    entry = _pattern(policy.get("pattern_rates", ()), signature)
    if entry is not None:
        return Decision(float(entry["rate"]), "pattern")
    if unknown_seen < policy.get("unknown", {}).get("first_per_hour", 0):
        return Decision(1.0, "unknown")
    rate = policy.get("severity_rates", {}).get(severity)
    if rate is not None:
        return Decision(float(rate), "severity")
    return Decision(float(policy["global_rate"]), "global")


def expected_kept(
    policy: Mapping[str, Any],
    severity: str,
    signature: str | None,
    body_error_like: bool,
    hours: Iterable[float],
    *,
    overlay: Overlay | Mapping[str, Any] | None = None,
    masked: str | None = None,
    at: datetime | None = None,
) -> float:
    """How many logs of a group (one pattern at one severity) are expected to be kept: Σ of `decide`'s rates.

    ``hours`` holds the group's logs in each hour; they count apart because the first ones of an unknown pattern are
    kept in every hour anew. The other arguments are those of `decide`.
    """
    limit = policy.get("unknown", {}).get("first_per_hour", 0)
    first, then = (
        decide(
            policy, severity, signature, body_error_like, unknown_seen=seen, overlay=overlay, masked=masked, at=at
        ).rate
        for seen in (0, limit)
    )
    if first == then:
        return first * float(sum(hours))
    return float(sum(min(logs, limit) * first + max(logs - limit, 0.0) * then for logs in hours))


def keeps(rate: float, key: bytes) -> bool:
    """Whether the log with this key is kept at this rate.

    The key's hash, read as a number in [0, 1), lies below the rate: the same key gives the same answer in every
    process, and a key kept at one rate is kept at any higher one. The key must tell logs apart (a record's id, or trace
    and span with a counter): logs that share a key share their fate. Logs without one are better drawn
    evenly (`lipservice_sampler.draws`). Rates outside [0, 1] count as the nearer end.
    """
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") < rate * 2.0**64


def _pattern(patterns: Any, signature: str | None) -> Mapping[str, Any] | None:
    """The entry of the signature in either form of ``pattern_rates``, or None."""
    if signature is None:
        return None
    if isinstance(patterns, Mapping):
        return patterns.get(signature)
    return next((entry for entry in patterns if entry["signature"] == signature), None)
