"""OpenTelemetry's logs, as the protocol (OTLP) writes them in JSON and in protobuf. Pure.

https://github.com/open-telemetry/opentelemetry-proto: LogsData, and ExportLogsServiceRequest, which has the same shape.
In JSON, ids are hex and 64-bit numbers may be strings. In protobuf, texts are read as octets, so that one that is not
UTF-8 loses nothing.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from lipservice_dagster.ingest.objects import Line, identity, severity_of_number, strings
from lipservice_dagster.ingest.octets import octets, repaired
from lipservice_dagster.ingest.text import SEVERITIES, SEVERITY_NUMBERS, severity_of, text_severity

_SCOPE = b"otel.scope.name"


def is_otlp(fields: dict[str, Any]) -> bool:
    """Whether a JSON object is of OTLP."""
    return isinstance(fields.get("resourceLogs", fields.get("resource_logs")), list)


def json_records(fields: dict[str, Any]) -> Iterator[Line]:
    """The log records of a JSON object of OTLP. What has not its place in OTLP's schema is passed over."""
    for of_resource in _objects(_either(fields, "resourceLogs")):
        resource = strings(_attributes(_object(of_resource.get("resource"))))
        for of_scope in _objects(_either(of_resource, "scopeLogs")):
            scope = _object(of_scope.get("scope")).get("name")
            for record in _objects(_either(of_scope, "logRecords")):
                yield _line(
                    body=_value(record.get("body")),
                    times=(_number(_either(record, "timeUnixNano")), _number(_either(record, "observedTimeUnixNano"))),
                    text=_text(_either(record, "severityText")),
                    number=_severity_number(_either(record, "severityNumber")),
                    attributes=_attributes(record),
                    resource=resource,
                    scope=octets(_text(scope)),
                    trace_id=identity(_text(_either(record, "traceId"))),
                    span_id=identity(_text(_either(record, "spanId"))),
                    event_name=_text(_either(record, "eventName")),
                )


def protobuf_records(data: bytes) -> list[Line] | None:
    """The log records of an OTLP message in protobuf; None where the octets are none."""
    message = _schema()()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return None
    return list(_message_records(message)) if len(message.resource_logs) else None


def _message_records(message: Any) -> Iterator[Line]:
    for of_resource in message.resource_logs:
        resource = strings(_pairs(of_resource.resource.attributes))
        for of_scope in of_resource.scope_logs:
            for record in of_scope.log_records:
                yield _line(
                    body=_any_value(record.body),
                    times=(record.time_unix_nano, record.observed_time_unix_nano),
                    text=_decoded(record.severity_text),
                    number=record.severity_number,
                    attributes=_pairs(record.attributes),
                    resource=resource,
                    scope=of_scope.scope.name,
                    trace_id=base64.b64encode(record.trace_id),
                    span_id=base64.b64encode(record.span_id),
                    event_name=_decoded(record.event_name),
                )


def _line(
    *,
    body: Any,
    times: Iterable[int],
    text: str,
    number: int,
    attributes: dict[str, Any],
    resource: dict[bytes, bytes],
    scope: bytes,
    trace_id: bytes,
    span_id: bytes,
    event_name: str,
) -> Line:
    if not isinstance(body, str):
        body = "" if body is None else json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    written = octets(body)
    severity = severity_of(repaired(text))
    if 1 <= number <= 24 and (severity is None or severity not in SEVERITIES.values()):
        severity = severity_of_number(number)
    at = next((nanoseconds // 1000 for nanoseconds in times if nanoseconds), None)
    return Line(
        written,
        at,
        severity or text_severity(written),
        resource.get(b"service.name"),
        strings(attributes) | ({_SCOPE: scope} if scope else {}),
        resource,
        trace_id,
        span_id,
        repaired(event_name),
    )


# JSON


def _either(fields: dict[str, Any], name: str) -> Any:
    """A field by its name in JSON, or by that in protobuf's text, which some writers use."""
    found = fields.get(name)
    return fields.get("".join(f"_{c.lower()}" if c.isupper() else c for c in name)) if found is None else found


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


_SEVERITY_NAME = re.compile(r"SEVERITY_NUMBER_([A-Z]+)([234]?)")


def _severity_number(value: Any) -> int:
    """A severity's number, which protobuf's own mapping to JSON writes as ``SEVERITY_NUMBER_ERROR2``."""
    name = _SEVERITY_NAME.fullmatch(value) if isinstance(value, str) else None
    if name is None:
        return _number(value)
    first = SEVERITY_NUMBERS.get(name[1].lower(), 0)
    return first + int(name[2] or 1) - 1 if first else 0


def _number(value: Any) -> int:
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else 0
    return int(value) if isinstance(value, int | float) and 0 <= value < 2**64 else 0


def _attributes(fields: dict[str, Any]) -> dict[str, Any]:
    return {_text(pair.get("key")): _value(pair.get("value")) for pair in _objects(fields.get("attributes"))}


def _value(value: Any) -> Any:
    """What a value of OTLP's AnyValue holds; 64-bit numbers may be strings, and are numbers here."""
    if not isinstance(value, dict) or not value:
        return None
    kind, held = next(iter(value.items()))
    match kind.replace("_", "").lower():
        case "intvalue":
            return int(held) if isinstance(held, str) and held.lstrip("-").isdecimal() else held
        case "arrayvalue":
            return [_value(item) for item in _objects(_object(held).get("values"))]
        case "kvlistvalue":
            return _attributes({"attributes": _object(held).get("values")})
        case _:
            return held


# Protobuf


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _pairs(pairs: Iterable[Any]) -> dict[str, Any]:
    return {_decoded(pair.key): _any_value(pair.value) for pair in pairs}


def _any_value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    held = getattr(value, kind)
    match kind:
        case "string_value":
            return _decoded(held)
        case "bytes_value":
            return base64.b64encode(held).decode()
        case "array_value":
            return [_any_value(item) for item in held.values]
        case "kvlist_value":
            return _pairs(held.values)
        case _:
            return held


_BYTES, _UINT32, _INT64, _DOUBLE, _BOOL, _FIXED64, _MESSAGE = (
    getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{name}")
    for name in ("BYTES", "UINT32", "INT64", "DOUBLE", "BOOL", "FIXED64", "MESSAGE")
)

# By message: name, number, type (a message's name for one of our own), and * where there are many, | for AnyValue's
# one of several. Fields that are not read are left out; protobuf passes over them.
_MESSAGES: dict[str, tuple[tuple[str, int, int | str, str], ...]] = {
    "LogsData": (("resource_logs", 1, "ResourceLogs", "*"),),
    "ResourceLogs": (("resource", 1, "Resource", ""), ("scope_logs", 2, "ScopeLogs", "*")),
    "Resource": (("attributes", 1, "KeyValue", "*"),),
    "ScopeLogs": (("scope", 1, "Scope", ""), ("log_records", 2, "LogRecord", "*")),
    "Scope": (("name", 1, _BYTES, ""),),
    "LogRecord": (
        ("time_unix_nano", 1, _FIXED64, ""),
        ("severity_number", 2, _UINT32, ""),
        ("severity_text", 3, _BYTES, ""),
        ("body", 5, "AnyValue", ""),
        ("attributes", 6, "KeyValue", "*"),
        ("trace_id", 9, _BYTES, ""),
        ("span_id", 10, _BYTES, ""),
        ("observed_time_unix_nano", 11, _FIXED64, ""),
        ("event_name", 12, _BYTES, ""),
    ),
    "KeyValue": (("key", 1, _BYTES, ""), ("value", 2, "AnyValue", "")),
    "AnyValue": (
        ("string_value", 1, _BYTES, "|"),
        ("bool_value", 2, _BOOL, "|"),
        ("int_value", 3, _INT64, "|"),
        ("double_value", 4, _DOUBLE, "|"),
        ("array_value", 5, "ArrayValue", "|"),
        ("kvlist_value", 6, "KeyValueList", "|"),
        ("bytes_value", 7, _BYTES, "|"),
    ),
    "ArrayValue": (("values", 1, "AnyValue", "*"),),
    "KeyValueList": (("values", 1, "KeyValue", "*"),),
}


@cache
def _schema() -> type[Message]:
    """The class of OTLP's LogsData."""
    package = "lipservice.otlp"
    file = descriptor_pb2.FileDescriptorProto(name="lipservice_otlp.proto", package=package, syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        if any(how == "|" for *_, how in fields):
            message.oneof_decl.add(name="value")
        for field_name, number, kind, how in fields:
            field = message.field.add(
                name=field_name,
                number=number,
                label=kinds.LABEL_REPEATED if how == "*" else kinds.LABEL_OPTIONAL,
                type=_MESSAGE if isinstance(kind, str) else kind,
            )
            if isinstance(kind, str):
                field.type_name = f".{package}.{kind}"
            if how == "|":
                field.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.LogsData"))
