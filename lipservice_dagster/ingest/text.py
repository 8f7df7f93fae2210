"""Times and severities in the text of a line. Pure; text is octets.

Both are looked for near the head of a line. What cannot be understood gives None: nothing is made up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

DAY_US = 86_400_000_000

TIME_HEAD = 120
SEVERITY_HEAD = 160
"""Octets from the start of a line in which its time and its severity are looked for."""

SEVERITIES: Mapping[str, str] = {
    word: severity
    for severity, words in {
        "trace": "trace finest finer",
        "debug": "debug fine verbose dbg",
        "info": "info information informational notice inf",
        "warn": "warn warning wrn",
        "error": "error err severe",
        "fatal": "fatal critical crit alert emerg emergency panic dpanic",
    }.items()
    for word in words.split()
}
"""From the words emitters use, in lower case, to PostHog's six severities."""

SEVERITY_NUMBERS: Mapping[str, int] = {"trace": 1, "debug": 5, "info": 9, "warn": 13, "error": 17, "fatal": 21}
"""The first OTLP number of each severity; text that is none of them has the number 0."""

# Times in text


class _Form(NamedTuple):
    """A way to write a time: a regex, and what each of its groups means (letters as in strftime)."""

    name: str
    regex: bytes
    groups: str  # Y y m b d H M S, f a fraction, L milliseconds, p am or pm, z a zone, E epoch, e its fraction


_Y, _MO, _D = rb"(\d{4})", rb"(0[1-9]|1[0-2])", rb"(0[1-9]|[12]\d|3[01])"
_H, _MI, _S, _F = rb"([01]\d|2[0-3])", rb"([0-5]\d)", rb"([0-5]\d|60)", rb"(?:[.,](\d{1,9}))?"
_OFFSET = rb"[+-](?:0\d|1[0-4]):?(?:00|15|30|45)"
_ZONES: Mapping[bytes, float] = {
    name.encode(): hours
    for hours, names in {
        0: "UTC GMT WET", 1: "CET BST", 2: "CEST EET SAST", 3: "EEST MSK", 5.5: "IST", 7: "WIB", 8: "SGT HKT AWST",
        9: "JST KST", 9.5: "ACST", 10: "AEST", 10.5: "ACDT", 11: "AEDT", 12: "NZST", 13: "NZDT", -3: "BRT ADT",
        -4: "AST EDT", -5: "EST CDT", -6: "CST MDT", -7: "MST PDT", -8: "PST AKDT", -9: "AKST", -10: "HST",
    }.items()
    for name in names.split()
}  # fmt: skip
"""Hours ahead of UTC, by a zone's short name; of those with several meanings that of most logs (IST is India's)."""
_NAMED = b"|".join(_ZONES)
_ZONE = rb"(?:\s?(Z|z|%b|%b|[+-](?:0\d|1[0-4]))(?![\w:]))?" % (_NAMED, _OFFSET)
_HOUR, _NOON = rb"(0?\d|1\d|2[0-3])", rb"(?: |\xe2\x80\xaf)([AaPp])[Mm](?!\w)"
_MONTHS = b"Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_MONTH = rb"(" + _MONTHS + rb")"
_DAY = rb"(0?[1-9]|[12]\d|3[01])"

_FORMS = (
    # 2015-10-18 18:01:47,978 · 2024-05-06T07:08:09.123456+02:00 · 2024/05/06 07:08
    _Form("iso", rb"(?<!\d)" + _Y + rb"[-/.]" + _MO + rb"[-/.]" + _D + rb"(?:[Tt_]| {1,2})" + _H + rb":" + _MI
          + rb"(?::" + _S + _F + rb")?" + _ZONE, "YmdHMSfz"),
    # Jun 14 15:16:01
    _Form("syslog", rb"(?<![A-Za-z])" + _MONTH + rb" {1,2}" + _DAY + rb" " + _H + rb":" + _MI + rb":" + _S + _F,
          "bdHMSf"),
    # 17/06/09 20:10:40, year first
    _Form("short", rb"(?<![\d/])(\d\d)/" + _MO + rb"/" + _D + rb" " + _H + rb":" + _MI + rb":" + _S + _F, "ymdHMSf"),
    # 081109 203615
    _Form("digits", rb"\A(\d\d)" + _MO + _D + rb" " + _H + _MI + _S + rb"(?!\d)", "ymdHMS"),
    # 20171223-22:15:29:606, without leading zeros
    _Form("dashed", rb"(?<!\d)" + _Y + _MO + _D + rb"-(1?\d|2[0-3]|0\d):(\d|[0-5]\d):(\d|[0-5]\d)(?::(\d{1,3}))?(?!\d)",
          "YmdHMSL"),
    # 06 May 2024 07:08:09.123 · 06-May-2024 07:08:09.123
    _Form("daymonth", rb"(?<!\d)" + _DAY + rb"[ -]" + _MONTH + rb"[ -]" + _Y + rb" " + _H + rb":" + _MI + rb":" + _S
          + _F + _ZONE, "dbYHMSfz"),
    # 03-17 16:13:38.811 · [10.30 16:49:06]
    _Form("yearless", rb"\A\[?" + _MO + rb"[-.]" + _D + rb" " + _H + rb":" + _MI + rb":" + _S + _F, "mdHMSf"),
    # I0524 12:34:56.789012
    _Form("klog", rb"\A[IWEF]" + _MO + _D + rb" +" + _H + rb":" + _MI + rb":" + _S + _F, "mdHMSf"),
    # [Sun Dec 04 04:47:44 2005]
    _Form("asctime", rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) " + _MONTH + rb" {1,2}" + _DAY + rb" " + _H + rb":" + _MI
          + rb":" + _S + _F + rb"(?: (" + _NAMED + rb"))? " + _Y + rb"(?!\d)", "bdHMSfzY"),
    # 1/2/2024 3:04:05 PM, month first
    _Form("american", rb"(?<![\d/])(0?[1-9]|1[0-2])/" + _DAY + rb"/" + _Y + rb",? " + _HOUR + rb":" + _MI
          + rb"(?::" + _S + _F + rb")?" + _NOON + _ZONE, "mdYHMSfpz"),
    # Jan 01, 2024 3:04:05 PM
    _Form("monthday", rb"(?<![A-Za-z])" + _MONTH + rb" " + _DAY + rb", " + _Y + rb",? " + _HOUR + rb":" + _MI + rb":"
          + _S + _F + rb"(?:" + _NOON + rb")?" + _ZONE, "bdYHMSfpz"),
    # [10/Oct/2000:13:55:36 -0700]
    _Form("access", rb"(?<!\d)" + _D + rb"/" + _MONTH + rb"/" + _Y + rb":" + _H + rb":" + _MI + rb":" + _S
          + rb"(?:\s(" + _OFFSET + rb"))?", "dbYHMSz"),
    # 20240506T070809Z
    _Form("basic", rb"(?<!\d)" + _Y + _MO + _D + rb"T" + _H + _MI + _S + _F + _ZONE, "YmdHMSfz"),
    # 2005-06-03-15.42.50.675872
    _Form("dotted", rb"(?<!\d)" + _Y + rb"-" + _MO + rb"-" + _D + rb"-" + _H + rb"\." + _MI + rb"\." + _S
          + rb"(?:\.(\d{1,9}))?(?!\d)", "YmdHMSf"),
    # 1117838570 as the first or second token; seconds, milliseconds, microseconds or nanoseconds
    _Form("epoch", rb"\A(?:\S{1,64}[ \t]+)?\[?([12]\d{9}(?:\d{3}){0,3})(?:\.(\d{1,9}))?(?=[\]\s,;|]|\Z)", "Ee"),
)  # fmt: skip

_TIME = re.compile(b"|".join(b"(?P<%b>%b)" % (form.name.encode(), form.regex) for form in _FORMS))
# Every form has one of these in it. Most lines without a time have none, and are spared the long search.
_TIME_HINT = re.compile(rb"\d:\d|-\d\d\.\d\d\.|\d{6}")
_MONTH_NUMBERS = {name: i + 1 for i, name in enumerate(_MONTHS.split(b"|"))}


def _positions() -> dict[str, dict[str, int]]:
    """The group number of each part of each form within `_TIME`."""
    return {
        form.name: {part: _TIME.groupindex[form.name] + 1 + i for i, part in enumerate(form.groups)} for form in _FORMS
    }


def _columns(parts: Mapping[str, int]) -> tuple[int, ...]:
    # A form without a part reads the group 0 in its place, and does not look at it.
    return tuple(parts.get(part, 0) for part in ("H", "M", "S", "f", "z", "L", "p"))


_PARTS = _positions()
_YEARLESS = {form.name for form in _FORMS if not {"Y", "y", "E"} & set(form.groups)}
_DATE_GROUPS = {
    name: (parts.get("Y", parts.get("y", 0)), parts.get("m", parts.get("b", 0)), parts.get("d", 0))
    for name, parts in _PARTS.items()
}
_CLOCK_GROUPS = {name: _columns(parts) for name, parts in _PARTS.items()}


class Time(NamedTuple):
    """A time in a text: microseconds since 1970 UTC (None: none that could be read), and where it ends."""

    at: int | None = None
    yearless: bool = False  # it names no year, so one was given to it
    end: int = 0


_NO_TIME = Time()


def text_time(text: bytes, year: int) -> Time:
    """The first time in the head of a text; one that names no year is of `year`.

    A time without a zone is UTC; 29 February without a year is of the last one that has it. Leap seconds count as the
    second before them.
    """
    head = text[:TIME_HEAD]
    found = _TIME.match(head) or (_TIME.search(head) if _TIME_HINT.search(head) else None)
    if found is None:
        return _NO_TIME
    name = found.lastgroup
    assert name is not None  # noqa: S101 - each alternative is a named group
    if name == "epoch":
        whole, fraction = found.group(_PARTS[name]["E"], _PARTS[name]["e"])
        return Time(_epoch_text(whole, fraction or b""), end=found.end())
    parts = _PARTS[name]
    written_year, month, day = found.group(*_DATE_GROUPS[name])
    yearless = name in _YEARLESS
    start = _day_start(b"%d" % year if yearless else written_year, month, day)
    if start is None and yearless and day == b"29":  # of February: of the last year that had one
        start = next((at for back in range(1, 9) if (at := _day_start(b"%d" % (year - back), month, day))), None)
    if start is None:
        return _NO_TIME
    hour, minute, second, fraction, zone, millis, half = found.group(*_CLOCK_GROUPS[name])
    hours = int(hour)
    if half and "p" in parts:
        hours = hours % 12 + (12 if half in b"pP" else 0)
    at = start + (hours * 3600 + int(minute) * 60) * 1_000_000
    if second:
        at += min(int(second), 59) * 1_000_000
    if fraction and "f" in parts:
        at += int(fraction[:6].ljust(6, b"0"))
    if zone and "z" in parts:
        at -= _offset(zone)
    if millis and "L" in parts:
        at += int(millis) * 1000
    return Time(at, yearless, found.end())


@lru_cache(maxsize=4096)
def _day_start(year: bytes, month: bytes, day: bytes) -> int | None:
    number = int(year)
    if len(year) == 2:
        number += 1900 if number >= 69 else 2000  # as POSIX reads %y
    try:
        date = datetime(number, _MONTH_NUMBERS.get(month) or int(month), int(day), tzinfo=UTC)
    except ValueError:  # 30 February, the year 0
        return None
    return int(date.timestamp()) * 1_000_000


@lru_cache(maxsize=256)
def _offset(zone: bytes) -> int:
    """Microseconds that a zone is ahead of UTC."""
    if zone[:1] not in b"+-":
        return int(_ZONES.get(zone, 0) * 3_600_000_000)
    digits = zone[1:].replace(b":", b"").ljust(4, b"0")
    size = (int(digits[:2]) * 60 + int(digits[2:])) * 60_000_000
    return size if zone[:1] == b"+" else -size


def _epoch_text(whole: bytes, fraction: bytes) -> int:
    unit = {10: 1_000_000, 13: 1000, 16: 1}.get(len(whole))
    if unit is None:
        return int(whole) // 1000
    return int(whole) * unit + int(fraction[:9].ljust(9, b"0")) * unit // 10**9


# Severities in text

_WORDS = (
    b"TRACE DEBUG INFO NOTICE WARNING WARN ERROR ERR SEVERE CRITICAL CRIT ALERT EMERGENCY EMERG FATAL PANIC".split()
)
# The search is quick where the regex starts with a set of characters, so each branch looks back at the first one.
_SEVERITY = re.compile(
    rb"[ACDEFINPSTWLls\[<|](?:"
    # in upper case, on its own
    rb"(?<![\w.\-/=].)(?:" + b"|".join(b"(?<=%c)%b" % (word[0], word[1:]) for word in _WORDS) + rb")(?![\w\-/=]|\.\w)"
    # in brackets, as in [core:error]
    rb"|(?<=[\[<|])\s{0,9}(?:[\w.]{1,24}:)?(?i:" + b"|".join(_WORDS) + rb")\s{0,9}[\]>|]"
    # key=value
    rb"|(?<![\w.\-].)(?:(?<=[lL])(?i:evel|vl)|(?<=[sS])(?i:everity))=[\"']?[A-Za-z]+(?![\w.\-/]))"
)
_LETTERS = re.compile(rb"[A-Za-z]+(?=\W*\Z)")
_ANY_CASE = rb"(?i:trace|debug|info|information|notice|warn|warning|error|err|severe|critical|crit|fatal|panic)"
# Behind the time in any case where it stands apart: ", Info   ", " - error - ", " warn: ", "\tinfo\t".
_BEHIND_TIME = re.compile(rb"[\s,|:\-\]]*(" + _ANY_CASE + rb")(?=[:,|]|\s{2}|\t|\s-\s)")
# The letter of Android's logcat behind the numbers of process and thread, and of its brief form.
_LETTER = re.compile(rb"\s+\d+\s+\d+\s+([VDIWEFA])\s|\s+([VDIWEFA])/")
# How daemons write theirs behind the head of syslog, "sshd[12]: error: …", and PostgreSQL its own words.
_BEHIND_TAG = re.compile(rb"\]: (error|fatal|warning|panic|debug|info|notice)\d?: ")
_POSTGRES = re.compile(rb"[\s\]](LOG|DETAIL|HINT|STATEMENT|CONTEXT):  ")
# "main: error: …", and what Go's servers say of a handler that panicked.
_BEHIND_NAME = re.compile(rb"\s+[\w.+/\-]{1,40}: (?:(warning|error|fatal): |panic serving )")
_EARLY = re.compile(rb"(?:[\w.+/\-]{1,40}: )?(warning|error|fatal): |([EW]): ")
# PHP's own log.
_PHP = re.compile(rb"PHP (?:(?:Recoverable |Catchable )?(fatal) |(?:Parse |Core |Compile )?(error|warning):)", re.I)
_KLOG = re.compile(rb"([IWEF])()\d{4} +\d\d:")
_LETTERS_OF = {b"V": "debug", b"D": "debug", b"I": "info", b"W": "warn", b"E": "error", b"F": "fatal", b"A": "fatal"}


def text_severity(text: bytes, time: Time = _NO_TIME) -> str | None:
    """The first severity in the head of a text: one of PostHog's six, or other text of a ``level=`` in lower case.

    ``time`` is that of the text; behind it a severity is known by less than elsewhere.
    """
    found = _SEVERITY.search(text, 0, SEVERITY_HEAD)
    if found is not None:
        return _severity_in(found[0])
    if (php := text.find(b"PHP ", time.end, SEVERITY_HEAD)) >= 0 and (says := _PHP.match(text, php)):
        return severity_of((says[1] or says[2]).decode())
    if not time.end:
        # As compilers and many tools write it, "ld: warning: …", and apt, "E: …".
        early = _EARLY.match(text)
        return None if early is None else severity_of(early[1].decode()) if early[1] else _LETTERS_OF[early[2]]
    behind = _BEHIND_TIME.match(text, time.end, SEVERITY_HEAD) or _BEHIND_NAME.match(text, time.end, SEVERITY_HEAD)
    if behind:
        return severity_of(behind[1].decode()) if behind[1] else "error"
    if letter := _KLOG.match(text) or _LETTER.match(text, time.end, SEVERITY_HEAD):
        return _LETTERS_OF[letter[1] or letter[2]]
    if (tag := text.find(b"]: ", time.end, SEVERITY_HEAD)) > 0 and (behind := _BEHIND_TAG.match(text, tag)):
        return severity_of(behind[1].decode())
    if text.find(b":  ", time.end, SEVERITY_HEAD) > 0 and _POSTGRES.search(text, time.end, SEVERITY_HEAD):
        return "info"
    return None


@lru_cache(maxsize=4096)
def _severity_in(found: bytes) -> str | None:
    word = _LETTERS.search(found)
    return severity_of(word[0].decode()) if word else None


def severity_of(text: str) -> str | None:
    """PostHog's name of a severity, or the text itself in lower case; None for an empty one."""
    lower = text.strip().lower()
    return SEVERITIES.get(lower, lower) or None
