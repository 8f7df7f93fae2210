"""What one line of a log file says: its time, severity, service and message. Pure; lines are octets.

A text line is kept whole as the body, and its time and severity are looked for near its head; of syslog's lines the
program is the service. A line that is a JSON object or logfmt gives its fields, octets that are not UTF-8 included.
What containers' runtimes put around a line (Docker's JSON, the CRI's prefix) is taken off. Whatever cannot be
understood is kept as text: a line is never changed or refused here.
"""

from __future__ import annotations

import re

from lipservice_dagster.ingest.objects import SYSLOG_SEVERITIES, Line, logfmt, read_object
from lipservice_dagster.ingest.octets import json_object
from lipservice_dagster.ingest.text import SEVERITIES, TIME_HEAD, text_severity, text_time
from lipservice_dagster.ingest.traces import trace_severity


def read_line(line: bytes, year: int) -> Line:
    """What a line (without its line ending) says; `year` is meant where its time names none."""
    if line.lstrip()[:1] == b"{":
        fields = json_object(line)
        if fields is not None:
            wrapped = isinstance(fields.get("log"), str) and isinstance(fields.get("stream"), str)
            cut = wrapped and len(fields["log"]) >= _DOCKER_CUTS // 4 and not fields["log"].endswith("\n")
            outer = read_object(line, fields, year)
            if cut and len(outer.body) >= _DOCKER_CUTS:
                return outer._replace(severity=None, text=True, partial=True)
            return _unwrapped(outer, year) if wrapped else outer
    if (prefix := _CRI.match(line)) and (outer_time := text_time(prefix[1], year)).at is not None:
        attributes, partial = {b"stream": prefix[2]}, prefix[3] == b"P"
        outer = Line(line[prefix.end() :], outer_time.at, attributes=attributes, text=True, partial=partial)
        return _unwrapped(outer, year)
    return _read_text(line, year)


_DOCKER_CUTS = 16 << 10
"""Octets after which Docker cuts a line; but for its last part it has no line ending then."""
# 2016-10-06T00:17:09.669794202Z stdout F message
_CRI = re.compile(rb"(\d{4}-\d\d-\d\dT\S+) (stdout|stderr) ([FP])(?: |\Z)")


def _unwrapped(outer: Line, year: int) -> Line:
    """A line that a container's runtime wrapped: what the program itself wrote says more than what is around it."""
    if outer.partial:
        return outer
    inner = read_line(outer.body, year)
    own_time = inner.timestamp is not None
    return inner._replace(
        timestamp=inner.timestamp if own_time else outer.timestamp,
        yearless=inner.yearless if own_time else outer.yearless,
        severity=inner.severity or outer.severity,
        service=outer.service if inner.service is None else inner.service,
        attributes=outer.attributes | inner.attributes,
        resource=outer.resource | inner.resource,
        trace_id=inner.trace_id or outer.trace_id,
        span_id=inner.span_id or outer.span_id,
        event_name=inner.event_name or outer.event_name,
    )


def _read_text(line: bytes, year: int) -> Line:
    fields = logfmt(line)
    if fields is not None:
        return read_object(line, fields, year)
    time = text_time(line, year)
    if time.at is None:
        severity = text_severity(line) or trace_severity(line)
        return Line(line, severity=severity, text=True)
    severity, service, end = _syslog(line, time.end)
    inner = _object_behind(line, end, year) if line[-1:] == b"}" else None
    if inner is not None and inner.body is not line:
        return inner._replace(
            timestamp=time.at if inner.timestamp is None else inner.timestamp,
            yearless=time.yearless if inner.timestamp is None else inner.yearless,
            severity=inner.severity or severity,
            service=service if inner.service is None else inner.service,
        )
    severity = severity or (inner and inner.severity) or text_severity(line, time)
    return Line(line, time.at, severity, service, yearless=time.yearless, text=True, timed=True)


def _object_behind(line: bytes, end: int, year: int) -> Line | None:
    """What a JSON object says that is all there is behind a time or the head of syslog.

    Its body is the line where it has no message.
    """
    if (begin := _BRACE.match(line, end)) is None:
        return None
    fields = json_object(line[begin.end() - 1 :])
    if fields is None:
        return None
    return read_object(line, fields, year)


_BRACE = re.compile(rb"\]?:?\s*\{")

# Syslog

_TAG = rb"(?:-- )?([A-Za-z_][\w./+\-]*)(?:\([^)\s]*\))?(?:\[[^\]\s]*\])?(?: [\d.]+)?:(?: |\Z)"
_PRIORITY = re.compile(rb"<(\d{1,3})>")
# <34>1 2003-10-11T22:14:15.003Z host program 123 ID47 …
_RFC5424 = re.compile(rb"<\d{1,3}>\d{1,2} \S+ \S+ (\S{1,48}) \S+ \S+ (?=[\[\-])")
# Behind the time: " host program(x)[123]: "; RFC 3164 ends the program's name before its first other sign.
_RFC3164 = re.compile(rb"\s+([\w.:\-]+) +" + _TAG)
_SYSLOG_TIME = re.compile(rb"(?:<\d{1,3}>)?[A-Z][a-z]{2} {1,2}\d{1,2} ")
# The same behind an ISO time, as newer daemons write it; other programs write ISO times too, so more is asked for.
_ISO_TIME = re.compile(rb"(?:<\d{1,3}>)?\d{4}-\d\d-\d\dT")
_ISO_TAG = re.compile(rb"\s+[\w.:\-]+ +(?:[A-Za-z_][\w./+\-]*\[\d+\]|kernel|sudo|su|rsyslogd):")


def _syslog(line: bytes, end: int) -> tuple[str | None, bytes | None, int]:
    """Severity and program of a line of syslog (RFC 5424, RFC 3164 and its kin) whose time ends at `end`.

    And where what it says begins.
    """
    priority = _PRIORITY.match(line)
    severity = SYSLOG_SEVERITIES[int(priority[1]) % 8] if priority and int(priority[1]) < 192 else None
    if severity and (head := _RFC5424.match(line)):
        return severity, None if head[1] == b"-" else head[1], end
    if _SYSLOG_TIME.match(line) or (_ISO_TIME.match(line) and _ISO_TAG.match(line, end, TIME_HEAD)):
        head = _RFC3164.match(line, end, TIME_HEAD)
        if head and head[1].lower().decode() not in SEVERITIES:
            return severity, head[2], head.end()
    return severity, None, end
