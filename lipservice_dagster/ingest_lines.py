"""What one line of a log file says: its time, severity, service and message. Pure; lines are octets.

A text line is kept whole as the body, and its time and severity are looked for near its head. A line that is a JSON
object gives its fields, octets that are not UTF-8 included. Whatever cannot be understood is kept as text: a line is
never changed or refused here.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from lipservice_dagster.ingest_json import json_object, octets, repaired

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

_BY_NUMBER = tuple(SEVERITY_NUMBERS)
# Numbers that stand as a level in JSON: those of pino and bunyan, and syslog's as GELF has them.
_LEVELS = {10: "trace", 20: "debug", 30: "info", 40: "warn", 50: "error", 60: "fatal"} | dict(
    enumerate(("fatal", "fatal", "fatal", "error", "warn", "info", "info", "debug"))
)


class Line(NamedTuple):
    """A line read. What it does not say is None or empty."""

    body: bytes
    timestamp: int | None = None  # microseconds since 1970, UTC
    severity: str | None = None  # one of PostHog's six, or other text in lower case
    service: bytes | None = None
    attributes: dict[bytes, bytes] = {}  # noqa: RUF012 - shared and never changed
    resource: dict[bytes, bytes] = {}  # noqa: RUF012
    trace_id: bytes = b""  # base64 text, as PostHog stores ids
    span_id: bytes = b""
    event_name: str = ""
    yearless: bool = False  # the time has no year of its own


def read_line(line: bytes, year: int) -> Line:
    """What a line (without its line ending) says; `year` is meant where its time names none."""
    if line.lstrip()[:1] == b"{":
        fields = json_object(line)
        if fields is not None:
            return _read_object(line, fields, year)
    found, yearless = text_time(line, year)
    return Line(line, found, text_severity(line), yearless=yearless)


# Times in text


class _Form(NamedTuple):
    """A way to write a time: a regex, and what each of its groups means (letters as in strftime)."""

    name: str
    regex: bytes
    groups: str  # Y y m b d H M S, f a fraction, L milliseconds, z a zone, E epoch, e its fraction


_Y, _MO, _D = rb"(\d{4})", rb"(0[1-9]|1[0-2])", rb"(0[1-9]|[12]\d|3[01])"
_H, _MI, _S, _F = rb"([01]\d|2[0-3])", rb"([0-5]\d)", rb"([0-5]\d|60)", rb"(?:[.,](\d{1,9}))?"
_OFFSET = rb"[+-](?:0\d|1[0-4]):?(?:00|15|30|45)"
_ZONE = rb"(?:\s?(Z|z|UTC|GMT|%b|[+-](?:0\d|1[0-4]))(?![\w:]))?" % _OFFSET
_MONTHS = b"Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_MONTH = rb"(" + _MONTHS + rb")"
_DAY = rb"(0?[1-9]|[12]\d|3[01])"

_FORMS = (
    # 2015-10-18 18:01:47,978 · 2024-05-06T07:08:09.123456+02:00 · 2024/05/06 07:08
    _Form("iso", rb"(?<!\d)" + _Y + rb"[-/.]" + _MO + rb"[-/.]" + _D + rb"[Tt _]" + _H + rb":" + _MI
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
    # [Sun Dec 04 04:47:44 2005]
    _Form("asctime", rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) " + _MONTH + rb" {1,2}" + _DAY + rb" " + _H + rb":" + _MI
          + rb":" + _S + _F + rb"(?: UTC| GMT)? " + _Y + rb"(?!\d)", "bdHMSfY"),
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
    return tuple(parts.get(part, 0) for part in ("H", "M", "S", "f", "z", "L"))


_PARTS = _positions()
_DATE_GROUPS = {
    name: (parts.get("Y", parts.get("y", 0)), parts.get("m", parts.get("b", 0)), parts.get("d", 0))
    for name, parts in _PARTS.items()
}
_CLOCK_GROUPS = {name: _columns(parts) for name, parts in _PARTS.items()}


def text_time(text: bytes, year: int) -> tuple[int | None, bool]:
    """The first time in the head of a text, in microseconds since 1970 UTC, and whether `year` was needed for it.

    A time without a zone is UTC. Leap seconds count as the second before them.
    """
    head = text[:TIME_HEAD]
    found = _TIME.match(head) or (_TIME.search(head) if _TIME_HINT.search(head) else None)
    if found is None:
        return None, False
    name = found.lastgroup
    assert name is not None  # noqa: S101 - each alternative is a named group
    if name == "epoch":
        whole, fraction = found.group(_PARTS[name]["E"], _PARTS[name]["e"])
        return _epoch_text(whole, fraction or b""), False
    parts = _PARTS[name]
    written_year, month, day = found.group(*_DATE_GROUPS[name])
    yearless = name == "syslog"
    start = _day_start(b"%d" % year if yearless else written_year, month, day)
    if start is None:
        return None, False
    hour, minute, second, fraction, zone, millis = found.group(*_CLOCK_GROUPS[name])
    at = start + (int(hour) * 3600 + int(minute) * 60) * 1_000_000
    if second:
        at += min(int(second), 59) * 1_000_000
    if fraction and "f" in parts:
        at += int(fraction[:6].ljust(6, b"0"))
    if zone and "z" in parts:
        at -= _offset(zone)
    if millis and "L" in parts:
        at += int(millis) * 1000
    return at, yearless


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
        return 0
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
    rb"|(?<=[\[<|])\s?(?:[\w.]{1,24}:)?(?i:" + b"|".join(_WORDS) + rb")\s?[\]>|]"
    # key=value
    rb"|(?<![\w.\-].)(?:(?<=[lL])(?i:evel|vl)|(?<=[sS])(?i:everity))=[\"']?[A-Za-z]+(?![\w.\-/]))"
)
_LETTERS = re.compile(rb"[A-Za-z]+(?=\W*\Z)")


def text_severity(text: bytes) -> str | None:
    """The first severity in the head of a text: one of PostHog's six, or other text of a ``level=`` in lower case."""
    found = _SEVERITY.search(text, 0, SEVERITY_HEAD)
    return None if found is None else _severity_in(found[0])


@lru_cache(maxsize=4096)
def _severity_in(found: bytes) -> str | None:
    word = _LETTERS.search(found)
    return severity_of(word[0].decode()) if word else None


def severity_of(text: str) -> str | None:
    """PostHog's name of a severity, or the text itself in lower case; None for an empty one."""
    lower = text.strip().lower()
    return SEVERITIES.get(lower, lower) or None


# JSON objects

_MESSAGE = ("message", "msg", "body", "log", "text", "event")
_TIMES = ("timestamp", "time", "ts", "@timestamp")
_SEVERITY_FIELDS = ("severity_text", "severity", "level", "lvl", "log.level")
_SERVICES = ("service", "service_name", "service.name")
_RESOURCES = ("resource_attributes", "resource")
# They say with which probability a log was kept, and stay readable where the other fields are left in the body.
_WEIGHTS = ("lipservice.sample_rate", "sampling.threshold", "sample_rate")
_HEX_ID = re.compile(r"(?:[0-9a-fA-F]{2}){8}|(?:[0-9a-fA-F]{2}){16}")


def _read_object(line: bytes, fields: dict[str, Any], year: int) -> Line:
    message = next((name for name in _MESSAGE if isinstance(fields.get(name), str)), None)
    if message is not None:
        body = octets(fields.pop(message).removesuffix("\n").removesuffix("\r"))  # Docker keeps the line ending
    elif fields.get("body") is not None:
        body = octets(_value(fields.pop("body")))
    else:
        body = line
    timestamp, yearless = _field_time(fields, year)
    if timestamp is None:
        timestamp, yearless = text_time(body, year)
    severity = _field_severity(fields)
    if severity is None:
        severity = text_severity(body)
    trace_id, span_id = (_identity(fields, name) for name in ("trace_id", "span_id"))
    event = _taken(fields, "event_name") if isinstance(fields.get("event_name"), str) else ""
    resource: dict[bytes, bytes] = {}
    for name in _RESOURCES:
        if isinstance(fields.get(name), dict):
            resource |= _strings(fields.pop(name))
    service = _field_service(fields)
    if service is None:
        service = resource.get(b"service.name")
    nested = fields.pop("attributes") if isinstance(fields.get("attributes"), dict) else {}
    if body is line:  # the fields are all in it; storing them again would double its size
        fields = {name: fields[name] for name in _WEIGHTS if name in fields}
    return Line(
        body,
        timestamp,
        severity,
        service,
        _strings(fields) | _strings(nested),
        resource,
        trace_id,
        span_id,
        event,
        yearless,
    )


def _taken(fields: dict[str, Any], name: str) -> str:
    """A field for a column that holds nothing but UTF-8, repaired; it is taken out unless that would lose octets."""
    text = repaired(fields[name])
    if text == fields[name]:
        del fields[name]
    return text


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _strings(fields: Mapping[str, Any]) -> dict[bytes, bytes]:
    return {octets(name): octets(_value(value)) for name, value in fields.items()}


def _field_time(fields: dict[str, Any], year: int) -> tuple[int | None, bool]:
    """The first time among the fields that can be read; it is taken out of them."""
    for name in _TIMES:
        if name in fields:
            found, yearless = _time_value(fields[name], year)
            if found is not None:
                del fields[name]
                return found, yearless
    return None, False


def _time_value(value: Any, year: int) -> tuple[int | None, bool]:
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch(r"\d{1,19}(?:\.\d{1,9})?", text, re.ASCII) and "." not in text:
            return _epoch(int(text)), False
        if re.fullmatch(r"\d{1,11}\.\d{1,9}", text, re.ASCII):
            whole, _, fraction = text.partition(".")
            return int(whole) * 1_000_000 + int(fraction[:6].ljust(6, "0")), False
        return text_time(octets(text), year)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) > 1e20:
        return None, False
    return _epoch(value), False


def _epoch(value: int | float) -> int:
    """Microseconds of an epoch in seconds, milliseconds, microseconds or nanoseconds, by its size."""
    size = abs(value)
    if size < 1e11:
        return round(value * 1_000_000)
    if size < 1e14:
        return round(value * 1000)
    return round(value) if size < 1e17 else round(value // 1000)


def _field_severity(fields: dict[str, Any]) -> str | None:
    number = fields.get("severity_number")
    for name in _SEVERITY_FIELDS:
        value = fields.get(name)
        if isinstance(value, str) and value.strip():
            fields.pop("severity_number", None)
            return severity_of(_taken(fields, name))
        if isinstance(value, int) and not isinstance(value, bool):
            del fields[name]
            return _LEVELS.get(value, str(value))
    nested = fields.get("log")
    if isinstance(nested, dict) and isinstance(nested.get("level"), str):  # as the Elastic Common Schema has it
        return severity_of(repaired(nested["level"]))
    if isinstance(number, int) and 1 <= number <= 24:
        del fields["severity_number"]
        return _BY_NUMBER[(number - 1) // 4]
    return None


def _field_service(fields: dict[str, Any]) -> bytes | None:
    for name in _SERVICES:
        value = fields.get(name)
        if isinstance(value, dict) and isinstance(value.get("name"), str):
            return octets(value["name"])
        if isinstance(value, str):
            del fields[name]
            return octets(value)
    return None


def _identity(fields: dict[str, Any], name: str) -> bytes:
    """A trace or span id: hex becomes base64, the form PostHog stores; anything else stays."""
    value = fields.get(name)
    if not isinstance(value, str):
        return b""
    del fields[name]
    return base64.b64encode(bytes.fromhex(value)) if _HEX_ID.fullmatch(value) else octets(value)
