"""What lines of the formats that are known say, and what inputs that are no lines hold."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import os
import random
import struct
import tarfile
import threading
import zipfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lipservice_dagster.ingest import IngestError, ingest, inputs
from lipservice_dagster.ingest.lines import read_line
from lipservice_dagster.ingest.otlp import json_records
from lipservice_dagster.ingest.reader import IngestSummary

NOW = datetime(2026, 9, 12, 8, 30, tzinfo=UTC)


def at(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def stored(content: bytes, root: Path, **options: Any) -> tuple[IngestSummary, list[dict[str, Any]]]:
    usual: dict[str, Any] = {"team_id": 7, "service": None, "day": None, "now": NOW}
    summary = ingest(io.BytesIO(content), store=root, **usual | options)
    assert summary.read == summary.stored + summary.joined + summary.blank + summary.not_stored
    return summary, rows(root)


def rows(root: Path) -> list[dict[str, Any]]:
    tables = [pq.read_table(path, partitioning=None) for path in sorted(root.glob("logs/*/*/*.parquet"))]
    return sorted((row for table in tables for row in table.to_pylist()), key=lambda row: row["timestamp"])


@pytest.mark.parametrize(
    ("line", "expected", "severity", "service"),
    [
        ("<34>Oct 11 22:14:15 mymachine su: 'su root' failed", "2026-10-11T22:14:15+00:00", "fatal", b"su"),
        ("<165>1 2003-10-11T22:14:15.003Z host evntslog - ID47 [a@1 b=\"c\"] x", "2003-10-11T22:14:15.003+00:00",
         "info", b"evntslog"),
        ("<11>1 2003-10-11T22:14:15-07:00 host - - - - x", "2003-10-12T05:14:15+00:00", "error", None),
        ("Jun 14 15:16:01 combo sshd(pam_unix)[19939]: check pass", "2026-06-14T15:16:01+00:00", None, b"sshd"),
        ("Jun 19 04:09:11 combo syslogd 1.4.1: restart.", "2026-06-19T04:09:11+00:00", None, b"syslogd"),
        ("Jun  9 06:06:20 combo -- root[2421]: ROOT LOGIN ON tty2", "2026-06-09T06:06:20+00:00", None, b"root"),
        ("Jun 14 15:16:01 h postfix/smtpd[1]: warning: x", "2026-06-14T15:16:01+00:00", "warn", b"postfix/smtpd"),
        ("Jun 14 15:16:01 h sshd[2]: error: Received disconnect", "2026-06-14T15:16:01+00:00", "error", b"sshd"),
        ("2024-05-06T07:08:09.123456+02:00 vm systemd[1]: Started x", "2024-05-06T05:08:09.123456+00:00", None,
         b"systemd"),
        ("2024-05-06T07:08:09+00:00 vm kernel: oops", "2024-05-06T07:08:09+00:00", None, b"kernel"),
        ("Jun 14 15:16:01 ERROR worker: x", "2026-06-14T15:16:01+00:00", "error", None),
        ("2024-05-06T07:08:09Z Starting server: port 80", "2024-05-06T07:08:09+00:00", None, None),
        ("<999>Oct 11 22:14:15 h su: x", "2026-10-11T22:14:15+00:00", None, b"su"),
    ],
)  # fmt: skip
def test_syslog_gives_its_program_and_priority_and_stays_whole(line, expected, severity, service):
    found = read_line(line.encode(), 2026)
    assert (found.timestamp, found.severity, found.service) == (at(expected), severity, service)
    assert found.body == line.encode()


@pytest.mark.parametrize(
    ("line", "expected", "severity"),
    [
        ("06 May 2024 07:08:09.123 # Warning", "2024-05-06T07:08:09.123+00:00", None),
        ("06-May-2024 07:08:09.123 INFO [main] x", "2024-05-06T07:08:09.123+00:00", "info"),
        ("03-17 16:13:38.811  1702  2395 D WindowManager: x", "2026-03-17T16:13:38.811+00:00", "debug"),
        ("[10.30 16:49:06] chrome.exe - proxy", "2026-10-30T16:49:06+00:00", None),
        ("E0524 12:34:56.789012    1234 file.go:12] x", "2026-05-24T12:34:56.789012+00:00", "error"),
        ("2016-09-28 04:30:30, Info                  CBS    Loaded", "2016-09-28T04:30:30+00:00", "info"),
        ("2024-05-06 07:08:09 warn: disk", "2024-05-06T07:08:09+00:00", "warn"),
        ("2024-05-06 07:08:09 - error - disk", "2024-05-06T07:08:09+00:00", "error"),
        ("2024-05-06 07:08:09 error handling of forms", "2024-05-06T07:08:09+00:00", None),
        ("2024-05-06 07:08:09.123 UTC [12] LOG:  checkpoint", "2024-05-06T07:08:09.123+00:00", "info"),
        ("Start-Date: 2025-06-24  14:36:25", "2025-06-24T14:36:25+00:00", None),
    ],
)
def test_times_and_levels_of_other_programs(line, expected, severity):
    found = read_line(line.encode(), 2026)
    assert (found.timestamp, found.severity) == (at(expected), severity)


@pytest.mark.parametrize(
    ("line", "severity"),
    [("ld: warning: x", "warn"), ("error: x", "error"), ("E: x", "error"), ("fatal: not a repository", "fatal"),
     ("an error: x", None), ("Error: x", None)],
)  # fmt: skip
def test_levels_of_tools_that_write_no_time(line, severity):
    assert read_line(line.encode(), 2026).severity == severity


def test_logfmt_gives_its_fields_and_text_with_an_equals_sign_does_not():
    found = read_line(rb'ts=2024-05-06T07:08:09Z level=warn msg="say \"hi\"\n" app=shop n=1 empty= trace_id=ab', 2026)
    assert (found.timestamp, found.severity, found.service) == (at("2024-05-06T07:08:09+00:00"), "warn", b"shop")
    assert found.body == b'say "hi"'
    assert (found.attributes, found.trace_id) == ({b"n": b"1", b"empty": b""}, b"ab")
    for line in (b"level=info and then text", b"msg=one", b"a=1 b=2", b'level=info msg="cut'):
        assert read_line(line, 2026).body == line


def test_what_a_containers_runtime_put_around_a_line_is_taken_off():
    cri = read_line(b"2016-10-06T00:17:09.669794202Z stderr F ERROR boom", 2026)
    assert (cri.body, cri.severity, cri.timestamp) == (b"ERROR boom", "error", at("2016-10-06T00:17:09.669794+00:00"))
    assert cri.attributes == {b"stream": b"stderr"}
    inner = json.dumps({"level": "warn", "msg": "m", "time": "2024-01-01T00:00:00Z"}) + "\n"
    docker = read_line(json.dumps({"log": inner, "stream": "stdout", "time": "2025-01-01T00:00:00Z"}).encode(), 2026)
    assert (docker.body, docker.severity, docker.timestamp) == (b"m", "warn", at("2024-01-01T00:00:00+00:00"))
    fluent = {"log": "x\n", "stream": "stdout", "time": 1700000000, "kubernetes": {"container_name": "web"}}
    assert read_line(json.dumps(fluent).encode(), 2026).service == b"web"


@pytest.mark.parametrize(
    ("fields", "body", "severity", "service"),
    [
        ({"__REALTIME_TIMESTAMP": "1700000000000000", "PRIORITY": "4", "SYSLOG_IDENTIFIER": "cron", "MESSAGE": "m"},
         b"m", "warn", b"cron"),
        ({"time": 1700000000000, "level": 50, "pid": 1, "hostname": "h", "name": "api", "msg": "m"},
         b"m", "error", b"api"),
        ({"@t": "2023-11-14T22:13:20Z", "@mt": "Hi {User}", "@l": "Warning"}, b"Hi {User}", "warn", None),
        ({"timestamp": 1700000000, "short_message": "m", "level": 3, "host": "h"}, b"m", "error", None),
        ({"asctime": "2023-11-14 22:13:20,000", "levelname": "CRITICAL", "message": "m", "name": "a.b"},
         b"m", "fatal", None),
        ({"timestamp": "2023-11-14T22:13:20Z", "severity": "NOTICE", "textPayload": "m"}, b"m", "info", None),
        ({"@timestamp": "2023-11-14T22:13:20Z", "@level": "error", "@message": "m"}, b"m", "error", None),
    ],
)  # fmt: skip
def test_common_names_of_fields(fields, body, severity, service):
    found = read_line(json.dumps(fields).encode(), 2026)
    assert (found.body, found.severity, found.service) == (body, severity, service)
    assert found.timestamp == at("2023-11-14T22:13:20+00:00")


# OTLP

OTLP = {
    "resourceLogs": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
            "scopeLogs": [
                {
                    "scope": {"name": "lib"},
                    "logRecords": [
                        {
                            "timeUnixNano": "1700000000123456789",
                            "severityNumber": 17,
                            "body": {"stringValue": "boom"},
                            "attributes": [
                                {"key": "n", "value": {"intValue": "-5"}},
                                {"key": "list", "value": {"arrayValue": {"values": [{"boolValue": True}]}}},
                            ],
                            "traceId": "0123456789abcdef0123456789abcdef",
                        },
                        {
                            "observedTimeUnixNano": 1700000001000000000,
                            "severityText": "Information",
                            "body": {"kvlistValue": {"values": [{"key": "a", "value": {"doubleValue": 0.5}}]}},
                        },
                    ],
                }
            ],
        }
    ]
}


def otlp_rows_are_right(found: list[dict[str, Any]]) -> None:
    first, second = found
    assert (first["body"], first["severity_text"], first["service_name"]) == (b"boom", "error", b"shop")
    assert first["timestamp"] == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)
    assert dict(first["attributes"]) == {b"n": b"-5", b"list": b"[true]", b"otel.scope.name": b"lib"}
    assert first["trace_id"] == base64.b64encode(bytes.fromhex("0123456789abcdef" * 2))
    assert (second["body"], second["severity_text"]) == (b'{"a":0.5}', "info")
    assert dict(second["resource_attributes"]) == {b"service.name": b"shop"}


@pytest.mark.parametrize("indent", [None, 2])
def test_otlp_json_gives_its_records_whether_on_a_line_or_over_many(tmp_path, indent):
    summary, found = stored(json.dumps(OTLP, indent=indent).encode() + b"\n", tmp_path)
    assert (summary.read, summary.stored) == (2, 2)
    otlp_rows_are_right(found)


def _field(number: int, value: bytes | int | float) -> bytes:
    """A field in protobuf's wire format: octets, a varint, or a 64-bit number."""
    if isinstance(value, float):
        return bytes([number << 3 | 1]) + struct.pack("<d", value)
    if isinstance(value, int):
        return bytes([number << 3]) + _varint(value)
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def _otlp_protobuf(name: bytes = b"shop") -> bytes:
    def pair(key: bytes, value: bytes) -> bytes:
        return _field(1, key) + _field(2, value)

    def fixed(number: int, value: int) -> bytes:
        return bytes([number << 3 | 1]) + struct.pack("<Q", value)

    first = (
        fixed(1, 1700000000123456789)
        + _field(2, 17)
        + _field(5, _field(1, b"boom"))
        + _field(6, pair(b"n", _field(3, -5)))
        + _field(6, pair(b"list", _field(5, _field(1, _field(2, 1)))))
        + bytes([8 << 3 | 5]) + struct.pack("<I", 1)  # flags, which are not read
        + _field(9, bytes.fromhex("0123456789abcdef" * 2))
    )  # fmt: skip
    second = (
        fixed(11, 1700000001000000000)
        + _field(3, b"Information")
        + _field(5, _field(6, _field(1, pair(b"a", _field(4, 0.5)))))
    )
    scope_logs = _field(1, _field(1, b"lib")) + _field(2, first) + _field(2, second)
    resource = _field(1, _field(1, pair(b"service.name", _field(1, name))))
    return _field(1, resource + _field(2, scope_logs))


def test_otlp_protobuf_gives_its_records_whether_alone_or_behind_lengths(tmp_path):
    message = _otlp_protobuf()
    _, found = stored(message, tmp_path / "one")
    otlp_rows_are_right(found)
    framed = struct.pack(">I", len(message)) + message
    summary, found = stored(framed * 3, tmp_path / "many")
    assert summary.stored == 6
    otlp_rows_are_right([found[0], found[3]])


def test_octets_of_otlp_that_are_not_utf8_are_kept(tmp_path):
    _, found = stored(_otlp_protobuf(b"sh\xffop"), tmp_path)
    assert {row["service_name"] for row in found} == {b"sh\xffop"}


def test_what_only_begins_like_protobuf_is_lines(tmp_path):
    content = b"\n\n\x12\x00\x012026-09-10 10:00:00 x\n"
    summary, found = stored(content, tmp_path)
    assert (summary.read, summary.blank, summary.stored) == (3, 2, 1)
    assert found[0]["body"].endswith(b"x")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"Timestamp": "2016-06-07T03:44:57.85+02:00", "Level": "Error", "MessageTemplate": "T {A}",
          "RenderedMessage": "T 1"}, ("T 1", "error", "2016-06-07T01:44:57.850+00:00", None)),
        ({"severity": "ERROR", "jsonPayload": {"message": "m", "x": 1}, "timestamp": "2024-02-03T04:05:07Z",
          "resource": {"labels": {"container_name": "cart"}}}, ("m", "error", "2024-02-03T04:05:07+00:00", b"cart")),
        ({"severity": "INFO", "message": "m", "time": {"seconds": 1700000000, "nanos": 5000}},
         ("m", "info", "2023-11-14T22:13:20.000005+00:00", None)),
        ({"severity": "INFO", "message": "m", "timestampSeconds": 1700000000, "timestampNanos": 5000},
         ("m", "info", "2023-11-14T22:13:20.000005+00:00", None)),
        ({"__REALTIME_TIMESTAMP": "1423944916375354", "PRIORITY": "3", "MESSAGE": [104, 255, 105]},
         (b"h\xffi", "error", "2015-02-14T20:15:16.375354+00:00", None)),
    ],
)  # fmt: skip
def test_fields_of_serilog_google_cloud_and_journald(line, expected):
    body, severity, when, service = expected
    found = read_line(json.dumps(line).encode(), 2026)
    assert found.body == (body if isinstance(body, bytes) else body.encode())
    assert (found.severity, found.timestamp, found.service) == (severity, at(when), service)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('2024-05-06 07:08:16 {"level":"error","msg":"x"}', ("x", "error", "2024-05-06T07:08:16+00:00", None)),
        ('2024-05-06T07:08:16Z {"level":"error","msg":"x","ts":1}', ("x", "error", "1970-01-01T00:00:01+00:00", None)),
        ('Oct 11 22:14:15 h app[1]: {"level":"warn","msg":"x"}', ("x", "warn", "2026-10-11T22:14:15+00:00", b"app")),
        ('2024-05-06 07:08:16 {"level":"error","n":1}', (None, "error", "2024-05-06T07:08:16+00:00", None)),
        ('2024-05-06 07:08:16 got {"level":"error","msg":"x"}', (None, None, "2024-05-06T07:08:16+00:00", None)),
        ('2024-05-06 07:08:16 {"level":"error","msg":"cut}', (None, None, "2024-05-06T07:08:16+00:00", None)),
    ],
)
def test_json_behind_a_time_or_the_head_of_syslog_gives_its_fields(line, expected):
    body, severity, when, service = expected
    found = read_line(line.encode(), 2026)
    assert found.body == (line if body is None else body).encode()
    assert (found.severity, found.timestamp, found.service) == (severity, at(when), service)


def test_parts_of_a_long_line_that_docker_cut_are_put_together(tmp_path):
    def record(log: str) -> str:
        return json.dumps({"log": log, "stream": "stderr", "time": "2026-09-10T10:00:00Z"}) + "\n"

    long = "ERROR " + "x" * ((16 << 10) - 6)
    content = record(long) + record("the rest\n") + record("no line ending") + record("next\n")
    summary, found = stored(content.encode(), tmp_path)
    assert (summary.stored, summary.joined) == (3, 1)
    assert {(row["body"].decode(), row["severity_text"]) for row in found} == {
        (long + "the rest", "error"),
        ("no line ending", "info"),
        ("next", "info"),
    }


def test_what_a_program_says_of_its_level_goes_before_what_is_around_it():
    inner = json.dumps({"level": "warn", "msg": "m"})
    record = {"log": inner, "stream": "stdout", "time": "2025-01-01T00:00:00Z", "level": "error"}
    assert read_line(json.dumps(record).encode(), 2026).severity == "warn"


@pytest.mark.parametrize(
    ("text", "number", "severity"), [("odd", 17, "error"), ("odd", 0, "odd"), ("WARN", 17, "warn")]
)
def test_otlps_number_counts_where_the_text_is_none_that_is_known(text, number, severity):
    record = {"severityNumber": number, "severityText": text, "body": {"stringValue": "x"}}
    document = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
    assert next(json_records(document)).severity == severity


def test_severities_of_otlp_may_be_names_of_their_numbers(tmp_path):
    for name, severity in (("ERROR", "error"), ("WARN3", "warn"), ("UNSPECIFIED", None)):
        record = {"severityNumber": f"SEVERITY_NUMBER_{name}", "body": {"stringValue": "x"}, "timeUnixNano": "1"}
        document = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
        assert next(json_records(document)).severity == severity


# Documents and packing


@pytest.mark.parametrize(
    "content",
    [
        json.dumps([{"time": 1700000000 + i, "msg": f"m{i}"} for i in range(3)]),
        json.dumps([{"time": 1700000000 + i, "msg": f"m{i}"} for i in range(3)], indent=2),
        "\n".join(json.dumps({"time": 1700000000 + i, "msg": f"m{i}"}, indent=1) for i in range(3)),
        "\ufeff" + "\n".join(json.dumps({"time": 1700000000 + i, "msg": f"m{i}"}) for i in range(3)),
    ],
)
def test_json_over_several_lines_gives_its_objects(tmp_path, content):
    summary, found = stored(content.encode(), tmp_path)
    assert summary.read == 3
    assert [row["body"] for row in found] == [b"m0", b"m1", b"m2"]


def test_a_first_line_that_was_cut_makes_no_document_of_the_others(tmp_path):
    content = b'{"msg": "cut\n{"time": 1700000000, "msg": "m"}\n'
    summary, found = stored(content, tmp_path, day=date(2026, 9, 10))
    assert summary.read == 2
    assert {row["body"] for row in found} == {b'{"msg": "cut', b"m"}


def _zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("pack", [gzip.compress, _zstd, lzma.compress, bz2.compress])
def test_packed_files_and_streams_are_read_whatever_their_name_and_cut_ones_refused(tmp_path, pack):
    content = b"".join(b"2026-09-10 10:00:00 INFO %d\n" % i for i in range(3000))
    (tmp_path / "packed.log").write_bytes(pack(content))
    options: dict[str, Any] = {"team_id": 1, "service": None, "day": None, "now": NOW}
    summary = ingest([tmp_path / "packed.log"], store=tmp_path / "file", **options)
    assert (summary.stored, summary.bytes) == (3000, len(content))
    assert ingest(io.BytesIO(pack(content)), store=tmp_path / "stream", **options).stored == 3000
    (tmp_path / "packed.log").write_bytes(pack(content)[:-20])
    with pytest.raises(IngestError, match=r"packed\.log.*Nothing was stored"):
        ingest([tmp_path / "packed.log"], store=tmp_path / "cut", **options)


def test_folders_give_their_files_once_and_leave_out_what_is_no_text(tmp_path):
    logs = tmp_path / "logs"
    (logs / "b").mkdir(parents=True)
    (logs / ".hidden").mkdir()
    (logs / "empty").mkdir()
    (logs / "a.log").write_bytes(b"2026-09-10 10:00:00 a\n")
    (logs / "b" / "c.log").write_bytes(b"2026-09-10 11:00:00 c\n")
    (logs / "again.log").symlink_to(logs / "a.log")
    (logs / ".hidden" / "x.log").write_bytes(b"2026-09-10 11:00:00 hidden\n")
    (logs / "journal").write_bytes(bytes(500))
    options: dict[str, Any] = {"store": tmp_path / "s", "team_id": 1, "service": None, "day": None, "now": NOW}
    summary = ingest([logs, logs / "a.log", logs / "empty"], **options)
    assert [row["body"][-1:] for row in rows(tmp_path / "s")] == [b"a", b"c"]
    assert summary.left_out == (f"{logs}/journal (it holds no text)", f"{logs}/empty (a folder without files)")
    with pytest.raises(IngestError, match="nothing to read"):
        ingest([logs / "empty"], **options)


@pytest.mark.parametrize("name", ["utf-16-le", "utf-16-be"])
def test_utf16_with_its_mark_is_read_as_text_and_noticed_when_it_comes_again(tmp_path, monkeypatch, name):
    text = "".join(f"2026-09-10 10:00:00 INFO żó\U0001f600 {i}\r\n" for i in range(300))
    path = tmp_path / "a.log"
    path.write_bytes(("\ufeff" + text).encode(name))
    options: dict[str, Any] = {"store": tmp_path / "s", "team_id": 1, "service": None, "day": None, "now": NOW}
    monkeypatch.setattr(inputs, "CHUNK_BYTES", 101)
    assert ingest([path], **options).stored == 300
    assert [row["body"].decode() + "\r\n" for row in rows(tmp_path / "s")] == text.splitlines(keepends=True)
    with path.open("ab") as file:
        file.write("2026-09-10 11:00:00 INFO new\r\n".encode(name))
    summary = ingest([path], **options)
    assert (summary.stored, summary.known[0].whole) == (1, False)


LOG_LINES = b"".join(b"2026-09-10 10:00:00 INFO line %d\n" % i for i in range(500))


@pytest.mark.parametrize(
    "content",
    [LOG_LINES + bytes(4096), bytes(9000) + LOG_LINES, LOG_LINES[:320] + bytes(5000) + LOG_LINES[320:], LOG_LINES],
)
def test_what_a_crash_or_a_cut_left_of_nuls_in_a_log_is_no_part_of_it(tmp_path, content):
    (tmp_path / "a.log").write_bytes(content)
    summary = ingest([tmp_path / "a.log"], store=tmp_path / "s", team_id=1, service=None, day=None, now=NOW)
    assert sum(row["body"].startswith(b"2026-09-10") for row in rows(tmp_path / "s")) == 500
    assert summary.not_stored == 0
    assert all(bytes(16) not in row["body"] for row in rows(tmp_path / "s"))


def test_archives_and_other_octets_are_left_out_with_the_reason(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.log").write_bytes(LOG_LINES)
    with zipfile.ZipFile(folder / "b.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(folder / "a.log")
    for name in ("c.tar", "d.tar.gz"):
        with tarfile.open(folder / name, "w:gz" if name.endswith("gz") else "w") as tar:
            tar.add(folder / "a.log")
    (folder / "e.bin").write_bytes(random.Random(1).randbytes(100_000))
    summary = ingest([folder], store=tmp_path / "s", team_id=1, service=None, day=None, now=NOW)
    assert summary.stored == 500
    assert [name.removeprefix(f"{folder}/") for name in summary.left_out] == [
        "b.zip (an archive: unpack it first)",
        "c.tar (an archive: unpack it first)",
        "d.tar.gz (an archive: unpack it first)",
        "e.bin (it holds no text)",
    ]
    with pytest.raises(IngestError, match=r"b\.zip \(an archive: unpack it first\)"):
        ingest([folder / "b.zip"], store=tmp_path / "s", team_id=1, service=None, day=None, now=NOW)


def test_a_file_whose_first_octets_cannot_be_read_is_named(tmp_path):
    with pytest.raises(IngestError, match="Opening /proc/self/mem failed"):
        ingest([Path("/proc/self/mem")], store=tmp_path, team_id=1, service=None, day=None, now=NOW)


def test_a_pipe_with_a_name_is_read_once_and_whole(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    content = _zstd(b"2026-09-10 10:00:00 INFO x\n" * 3000)
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(content,))
    writer.start()
    summary = ingest([tmp_path / "pipe"], store=tmp_path / "s", team_id=1, service=None, day=None, now=NOW)
    writer.join()
    assert summary.stored == 3000


# Years


def test_times_without_a_year_do_not_lie_after_the_file(tmp_path):
    content = (
        b"Dec 31 23:59:59 h a[1]: x\nJan  1 00:00:01 h a[1]: y\nSep 13 01:00:00 h a[1]: z\nSep 14 01:00:00 h a[1]: w\n"
    )
    summary, found = stored(content, tmp_path)
    assert [row["timestamp"].year for row in found] == [2025, 2025, 2026, 2026]
    assert [row["body"][-1:] for row in found] == [b"w", b"x", b"y", b"z"]
    assert summary.years == (2025, 2026)
