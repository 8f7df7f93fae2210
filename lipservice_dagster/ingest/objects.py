"""What the fields of a structured line say: JSON objects and logfmt. Pure.

The names are those that loggers and collectors give: OpenTelemetry's, the Elastic Common Schema, pino and bunyan,
zap, Serilog's compact form, structlog, GELF, Google Cloud, Docker, journald. A field that is understood becomes a
column of the log; the others are its attributes.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from lipservice_dagster.ingest.octets import octets, repaired
from lipservice_dagster.ingest.text import SEVERITY_NUMBERS, Time, severity_of, text_severity, text_time

_BY_NUMBER = tuple(SEVERITY_NUMBERS)
SYSLOG_SEVERITIES = ("fatal", "fatal", "fatal", "error", "warn", "info", "info", "debug")
"""PostHog's severity of each of syslog's, 0 (emergency) to 7 (debug)."""

# Numbers that stand as a level in JSON: those of pino and bunyan, and syslog's as GELF has them.
_LEVELS = {10: "trace", 20: "debug", 30: "info", 40: "warn", 50: "error", 60: "fatal"} | dict(
    enumerate(SYSLOG_SEVERITIES)
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
    text: bool = False  # the message is a line of text without fields
    timed: bool = False  # … with a time of its own in it; one without may go on with the line before
    partial: bool = False  # the next line of the file is the rest of it


_MESSAGE = (
    "message",
    "msg",
    "body",
    "log",
    "text",
    "event",
    "MESSAGE",
    "@message",
    "@m",
    "@mt",
    "short_message",
    "textPayload",
    "RenderedMessage",
    "Message",
    "MessageTemplate",
)
_TIMES = (
    "timestamp",
    "time",
    "ts",
    "@timestamp",
    "@t",
    "datetime",
    "date",
    "eventTime",
    "asctime",
    "__REALTIME_TIMESTAMP",
    "Timestamp",
)
SEVERITY_FIELDS = (
    "severity_text",
    "severity",
    "level",
    "lvl",
    "log.level",
    "@l",
    "@level",
    "levelname",
    "loglevel",
    "log_level",
    "severityText",
    "Level",
    "LogLevel",
)
NUMBER_FIELDS = ("severity_number", "severityNumber")
_SERVICES = (
    "service",
    "service_name",
    "service.name",
    "serviceName",
    "app",
    "application",
    "app_name",
    "appname",
    "SYSLOG_IDENTIFIER",
)
_RESOURCES = ("resource_attributes", "resource")
# They say with which probability a log was kept, and stay readable where the other fields are left in the body.
_WEIGHTS = ("lipservice.sample_rate", "sampling.threshold", "sample_rate")
_HEX_ID = re.compile(r"(?:[0-9a-fA-F]{2}){8}|(?:[0-9a-fA-F]{2}){16}")


def read_object(line: bytes, fields: dict[str, Any], year: int) -> Line:
    """What the fields of a line say; the line itself is the body where no field is a message. The fields are used up.

    ``year`` is for a time that names none.
    """
    _open_google(fields)
    if isinstance(fields.get("MESSAGE"), list) and (said := _of_octets(fields["MESSAGE"])) is not None:
        fields["MESSAGE"] = said
    message = next((name for name in _MESSAGE if isinstance(fields.get(name), str)), None)
    if message is not None:
        body = octets(fields.pop(message).removesuffix("\n").removesuffix("\r"))  # Docker keeps the line ending
    elif fields.get("body") is not None:
        body = octets(_value(fields.pop("body")))
    else:
        body = line
    time = _field_time(fields, year)
    in_body = text_time(body, year) if time.at is None else Time()
    severity = _field_severity(fields)
    if severity is None:
        severity = text_severity(body, in_body)
    timestamp, yearless, _ = in_body if time.at is None else time
    trace_id, span_id = (_identity(fields, name) for name in (("trace_id", "traceId"), ("span_id", "spanId")))
    event = _taken(fields, "event_name") if isinstance(fields.get("event_name"), str) else ""
    service = _field_service(fields)
    resource: dict[bytes, bytes] = {}
    for name in _RESOURCES:
        if isinstance(fields.get(name), dict):
            resource |= strings(fields.pop(name))
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
        strings(fields) | strings(nested),
        resource,
        trace_id,
        span_id,
        event,
        yearless,
    )


def _open_google(fields: dict[str, Any]) -> None:
    """Google Cloud has a log's own fields in one, and its time in one or two of whole seconds and nanoseconds."""
    payload = fields.get("jsonPayload")
    if isinstance(payload, dict):
        del fields["jsonPayload"]
        for name, value in payload.items():
            fields.setdefault(name, value)
    seconds, nanos = fields.get("timestampSeconds"), fields.get("timestampNanos", 0)
    if isinstance(seconds, int | str) and "timestamp" not in fields:
        at = _time_value({"seconds": seconds, "nanos": nanos}, 1970).at
        if at is not None:
            fields["timestamp"] = at
            fields.pop("timestampSeconds")
            fields.pop("timestampNanos", None)


def _of_octets(values: list[Any]) -> str | None:
    """Text that journald writes as a list of octets, as it is not UTF-8."""
    if not all(isinstance(value, int) and 0 <= value < 256 for value in values):
        return None
    return bytes(values).decode("utf-8", "surrogateescape")


def _taken(fields: dict[str, Any], name: str) -> str:
    """A field for a column that holds nothing but UTF-8, repaired; it is taken out unless that would lose octets."""
    text = repaired(fields[name])
    if text == fields[name]:
        del fields[name]
    return text


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def strings(fields: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Fields as attributes: text as it is, everything else as JSON."""
    return {octets(name): octets(_value(value)) for name, value in fields.items()}


def _field_time(fields: dict[str, Any], year: int) -> Time:
    """The first time among the fields that can be read; it is taken out of them."""
    for name in _TIMES:
        if name in fields:
            found = _time_value(fields[name], year)
            if found.at is not None:
                del fields[name]
                return found
    return Time()


def _time_value(value: Any, year: int) -> Time:
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch(r"\d{1,19}(?:\.\d{1,9})?", text, re.ASCII) and "." not in text:
            return Time(_epoch(int(text)))
        if re.fullmatch(r"\d{1,11}\.\d{1,9}", text, re.ASCII):
            whole, _, fraction = text.partition(".")
            return Time(int(whole) * 1_000_000 + int(fraction[:6].ljust(6, "0")))
        return text_time(octets(text), year)
    if isinstance(value, dict) and str(value.get("seconds", "")).isdigit():
        nanos = value.get("nanos", 0)
        seconds = int(str(value["seconds"])[:12])
        return Time(seconds * 1_000_000 + (nanos // 1000 if isinstance(nanos, int) else 0))
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) > 1e20:
        return Time()
    return Time(_epoch(value))


def _epoch(value: int | float) -> int:
    """Microseconds of an epoch in seconds, milliseconds, microseconds or nanoseconds, by its size."""
    size = abs(value)
    if size < 1e11:
        return round(value * 1_000_000)
    if size < 1e14:
        return round(value * 1000)
    return round(value) if size < 1e17 else round(value // 1000)


def _field_severity(fields: dict[str, Any]) -> str | None:
    for name in SEVERITY_FIELDS:
        value = fields.get(name)
        if isinstance(value, str) and value.strip():
            for number in NUMBER_FIELDS:
                fields.pop(number, None)
            if value.isascii() and value.isdigit():
                del fields[name]
                return _LEVELS.get(int(value), value)
            return severity_of(_taken(fields, name))
        if isinstance(value, int) and not isinstance(value, bool):
            del fields[name]
            return _LEVELS.get(value, str(value))
    nested = fields.get("log")
    if isinstance(nested, dict) and isinstance(nested.get("level"), str):  # as the Elastic Common Schema has it
        return severity_of(repaired(nested["level"]))
    for name in NUMBER_FIELDS:
        value = fields.get(name)
        if isinstance(value, int) and 1 <= value <= 24:
            del fields[name]
            return severity_of_number(value)
    priority = str(fields.get("PRIORITY", ""))  # of journald
    if priority in tuple("01234567"):
        del fields["PRIORITY"]
        return SYSLOG_SEVERITIES[int(priority)]
    return None


def severity_of_number(number: int) -> str:
    """The severity of one of OpenTelemetry's numbers, 1 to 24."""
    return _BY_NUMBER[(number - 1) // 4]


def _field_service(fields: dict[str, Any]) -> bytes | None:
    for name in _SERVICES:
        value = fields.get(name)
        if isinstance(value, dict) and isinstance(value.get("name"), str):
            return octets(value["name"])
        if isinstance(value, str):
            del fields[name]
            return octets(value)
    if isinstance(fields.get("name"), str) and {"pid", "hostname"} <= fields.keys():  # as pino and bunyan have it
        return octets(fields.pop("name"))
    labels = fields["resource"].get("labels") if isinstance(fields.get("resource"), dict) else None
    if isinstance(labels, dict):
        for name in ("container_name", "service_name"):  # Google Cloud's
            if isinstance(labels.get(name), str):
                return octets(labels[name])
    pod = fields.get("kubernetes")
    if isinstance(pod, dict) and isinstance(pod.get("container_name"), str):
        return octets(pod["container_name"])
    return None


def _identity(fields: dict[str, Any], names: tuple[str, ...]) -> bytes:
    given = [name for name in names if isinstance(fields.get(name), str)]
    return identity(fields.pop(given[0])) if given else b""


def identity(value: str) -> bytes:
    """A trace or span id: hex becomes base64, the form PostHog stores; anything else stays."""
    return base64.b64encode(bytes.fromhex(value)) if _HEX_ID.fullmatch(value) else octets(value)


# logfmt

_PAIR = rb"[A-Za-z_@][\w.@/\-]*=(?:\"(?:[^\"\\]|\\.)*\"|[^\s\"]*)"
_LOGFMT = re.compile(rb"\s*" + _PAIR + rb"(?:\s+" + _PAIR + rb")+\s*")
_ONE_PAIR = re.compile(rb"([^\s=]+)=(?:\"((?:[^\"\\]|\\.)*)\"|([^\s\"]*))")
_LOGFMT_HEAD = re.compile(rb"\s*[A-Za-z_@][\w.@/\-]*=")
_LOGFMT_HINT = re.compile(rb"(?:\A|\s)(?:msg|message|level|lvl|severity)=")
_ESCAPES = {b"n": b"\n", b"t": b"\t", b"r": b"\r"}


def logfmt(line: bytes) -> dict[str, Any] | None:
    """The fields of a line that is ``key=value key="some text" …`` from end to end with a message or a level.

    None for any other. Its strings can be given to `octets`.
    """
    if _LOGFMT_HEAD.match(line) is None or _LOGFMT_HINT.search(line) is None or _LOGFMT.fullmatch(line) is None:
        return None
    return {
        key.decode("utf-8", "surrogateescape"): _unquoted(quoted or plain).decode("utf-8", "surrogateescape")
        for key, quoted, plain in _ONE_PAIR.findall(line)
    }


def _unquoted(value: bytes) -> bytes:
    if b"\\" not in value:
        return value
    return re.sub(rb"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), value, flags=re.DOTALL)
