import base64
import errno
import gzip
import io
import json
import os
import sys
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import clickhouse_connect
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lipservice_dagster.ingest import IngestError, ingest, inputs, run_ingest
from lipservice_dagster.ingest import reader as ingest_reader
from lipservice_dagster.ingest.inputs import lines_of
from lipservice_dagster.ingest.lines import read_line
from lipservice_dagster.ingest.reader import NO_TIME, OUT_OF_RANGE, TOO_LONG, IngestSummary
from lipservice_dagster.local.log_store import counts

NOW = datetime(2026, 9, 12, 8, 30, tzinfo=UTC)
DAY = date(2026, 9, 10)


def store_of(content: bytes, root: Path, **options: Any) -> IngestSummary:
    usual: dict[str, Any] = {"team_id": 7, "service": "web", "day": None, "now": NOW}
    return ingest(io.BytesIO(content), store=root, **usual | options)


def rows(root: Path) -> list[dict]:
    tables = [pq.read_table(path, partitioning=None) for path in sorted(root.glob("logs/*/*/*.parquet"))]
    found = [row for table in tables for row in table.to_pylist()]
    return sorted(found, key=lambda row: row["timestamp"])


def balanced(summary) -> bool:
    return summary.read == summary.stored + summary.joined + summary.blank + summary.not_stored


def at(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


TIMES = (
    ("2015-10-18 18:01:47,978 INFO [main] x", "2015-10-18T18:01:47.978+00:00"),
    ("2024-05-06T07:08:09.123456789Z x", "2024-05-06T07:08:09.123456+00:00"),
    ("2024-05-06T07:08:09+02:00 x", "2024-05-06T05:08:09+00:00"),
    ("2024-05-06 07:08:09 -0730 x", "2024-05-06T14:38:09+00:00"),
    ("2024-05-06 07:08:09+02 x", "2024-05-06T05:08:09+00:00"),
    ("2024/05/06 07:08:09 [error] x", "2024-05-06T07:08:09+00:00"),
    ("[2024-05-06 07:08] x", "2024-05-06T07:08:00+00:00"),
    ("ts=2024-05-06T07:08:09.5Z level=info", "2024-05-06T07:08:09.500+00:00"),
    ("2024-05-06 07:08:09 1234 requests", "2024-05-06T07:08:09+00:00"),
    ("Jun 14 15:16:01 combo sshd: x", "2023-06-14T15:16:01+00:00"),
    ("<34>Oct  3 02:14:15.250 host su: x", "2023-10-03T02:14:15.250+00:00"),
    ("17/06/09 20:10:40 INFO x", "2017-06-09T20:10:40+00:00"),
    ("081109 203615 148 INFO x", "2008-11-09T20:36:15+00:00"),
    ("20171223-22:15:29:606|Step_LSC|x", "2017-12-23T22:15:29.606+00:00"),
    ("20171224-0:7:20:44|Step_LSC|x", "2017-12-24T00:07:20.044+00:00"),
    ("[Sun Dec 04 04:47:44 2005] [error] x", "2005-12-04T04:47:44+00:00"),
    ("[Wed Oct 11 14:32:52.123456 2000] [core:error] x", "2000-10-11T14:32:52.123456+00:00"),
    ('1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 1', "2000-10-10T20:55:36+00:00"),
    ("20240506T070809Z x", "2024-05-06T07:08:09+00:00"),
    ("node 2005-06-03-15.42.50.675872 RAS", "2005-06-03T15:42:50.675872+00:00"),
    ("- 1117838570 2005.06.03 R02-M1-N0-C:J12-U11 RAS KERNEL INFO x", "2005-06-03T22:42:50+00:00"),
    ("1700000000.25 x", "2023-11-14T22:13:20.250+00:00"),
    ("1700000000123 x", "2023-11-14T22:13:20.123+00:00"),
    ("1700000000123456 x", "2023-11-14T22:13:20.123456+00:00"),
    ("1700000000123456789 x", "2023-11-14T22:13:20.123456+00:00"),
    ("2024-05-06 07:08:09.123 CET [1] x", "2024-05-06T06:08:09.123+00:00"),
    ("2024-05-06 07:08:09 PDT x", "2024-05-06T14:08:09+00:00"),
    ("2024-05-06 07:08:09 IST x", "2024-05-06T01:38:09+00:00"),
    ("2024-05-06 07:08:09 ESTABLISHED x", "2024-05-06T07:08:09+00:00"),
    ("[Sun Dec 04 04:47:44 EST 2005] x", "2005-12-04T09:47:44+00:00"),
    ("Feb 29 07:08:09 h p[1]: in a year without one", "2020-02-29T07:08:09+00:00"),
    ("1/2/2024 3:04:05 PM x", "2024-01-02T15:04:05+00:00"),
    ("12/31/2024, 12:04:05.5 am x", "2024-12-31T00:04:05.500+00:00"),
    ("Jan 01, 2024 12:04:05 PM a.b.C d", "2024-01-01T12:04:05+00:00"),
    ("Jan 01, 2024 3:04:05\u202fPM a.b.C d", "2024-01-01T15:04:05+00:00"),
    ("Jan 01, 2024 15:04:05 x", "2024-01-01T15:04:05+00:00"),
    ("98/06/09 20:10:40 x", "1998-06-09T20:10:40+00:00"),
    ("2016-12-31 23:59:60 leap", "2016-12-31T23:59:59+00:00"),
)


@pytest.mark.parametrize(("line", "expected"), TIMES)
def test_times_are_found_in_text(line, expected):
    assert read_line(line.encode(), 2023).timestamp == at(expected)


@pytest.mark.parametrize(
    ("line", "expected"), [(line, when) for line, when in TIMES if line[:2] not in ("08", "17", "98", "- ")]
)
def test_times_are_found_behind_other_words(line, expected):
    assert read_line(b"some words | " + line.encode(), 2023).timestamp == at(expected)


@pytest.mark.parametrize(
    "line",
    [
        "\tat org.example.Foo.bar(Foo.java:12)",
        "2024-13-06 07:08:09 no such month",
        "2024-02-30 07:08:09 no such day",
        "Caused by: 10.251.73.220:50010 refused",
        "Feb 30 07:08:09 in any year",
        "13/2/2024 3:04:05 PM no such month",
        "took 12:30 of 14:00",
        "they received 1234567890 bytes",
        "x" * 121 + " 2024-05-06 07:08:09",
    ],
)
def test_no_time_is_made_up(line):
    assert read_line(line.encode(), 2023).timestamp is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("2015-10-18 18:01:47,978 INFO [main] an ERROR later", "info"),
        ("12:00:00 WARNING: disk", "warn"),
        ("ERROR:root:boom", "error"),
        ("[Sun Dec 04 04:47:44 2005] [notice] x", "info"),
        ("[Wed Oct 11 14:32:52 2000] [core:error] [pid 35708] x", "error"),
        ("[ crit ] x", "fatal"),
        ("2022-10-07 09:48:35 [warning  ] hello   key=1", "warn"),
        ("2022-10-07 09:48:35 main: error: y", "error"),
        ("<warning> x", "warn"),
        ("ts=1 level=debug msg=x", "debug"),
        ('ts=1 lvl="eror" msg=x', "eror"),
        ("time=1 severity=CRITICAL x", "fatal"),
        ("SEVERE x", "error"),
        ("EMERG x", "fatal"),
        ("TRACE x", "trace"),
        ("there was an error, and the panic level is high", None),
        ("GET /ERROR/1 x", None),
        ("INFO_TABLE and PRE-ERROR and ERROR.log and x=ERROR", None),
        ("water_level=low", None),
        ("y" * 161 + " ERROR", None),
        ("", None),
    ],
)
def test_severities_are_found_in_text(line, expected):
    assert read_line(line.encode(), 2023).severity == expected


def test_a_json_line_gives_its_fields():
    line = {
        "@timestamp": "2024-05-06T07:08:09.5+01:00",
        "log.level": "WARNING",
        "service.name": "api",
        "logger": "a.b",
        "msg": "user ż \x00 in",
        "trace_id": "0123456789abcdef0123456789abcdef",
        "span_id": "not hex",
        "resource": {"k8s.pod.name": "p1", "n": 1},
        "attributes": {"lipservice.sample_rate": "0.25", "deep": {"a": [1, None]}},
        "status": 200,
        "ok": True,
    }
    found = read_line(json.dumps(line).encode(), 2023)
    assert found.body == "user ż \x00 in".encode()
    assert found.timestamp == at("2024-05-06T06:08:09.500+00:00")
    assert (found.severity, found.service) == ("warn", b"api")
    assert found.trace_id == base64.b64encode(bytes.fromhex("0123456789abcdef0123456789abcdef"))
    assert found.span_id == b"not hex"
    assert found.resource == {b"k8s.pod.name": b"p1", b"n": b"1"}
    assert found.attributes == {
        b"logger": b"a.b",
        b"status": b"200",
        b"ok": b"true",
        b"lipservice.sample_rate": b"0.25",
        b"deep": b'{"a":[1,null]}',
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1700000000, "2023-11-14T22:13:20+00:00"),
        (1700000000.25, "2023-11-14T22:13:20.250+00:00"),
        ("1700000000.25", "2023-11-14T22:13:20.250+00:00"),
        (1700000000123, "2023-11-14T22:13:20.123+00:00"),
        ("1700000000123456", "2023-11-14T22:13:20.123456+00:00"),
        (20_000_000_000_000_000, "2603-10-11T11:33:20+00:00"),
        (1700000000123456789, "2023-11-14T22:13:20.123456+00:00"),
        ("Jun 14 15:16:01", "2023-06-14T15:16:01+00:00"),
        ("2024-05-06 07:08:09", "2024-05-06T07:08:09+00:00"),
        (True, None),
        (None, None),
        ("soon", None),
        ({"a": 1}, None),
    ],
)
def test_times_of_json_fields(value, expected):
    found = read_line(json.dumps({"time": value, "msg": "x"}).encode(), 2023)
    assert found.timestamp == (None if expected is None else at(expected))
    assert (b"time" in found.attributes) == (expected is None)  # what cannot be read is kept


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"level": "Information"}, "info"),
        ({"Level": "Error"}, "error"),
        ({"LogLevel": "Critical"}, "fatal"),
        ({"level": 50}, "error"),
        ({"level": 4}, "warn"),
        ({"level": 35}, "35"),
        ({"severity": "weird"}, "weird"),
        ({"severity_number": 18}, "error"),
        ({"severity_text": "FATAL", "severity_number": 9}, "fatal"),
        ({"log": {"level": "debug"}}, "debug"),
        ({"level": ""}, None),
        ({}, None),
    ],
)
def test_severities_of_json_fields(fields, expected):
    assert read_line(json.dumps(fields | {"msg": "x"}).encode(), 2023).severity == expected


def test_a_json_line_without_a_message_is_kept_whole_and_once():
    line = b'{"ts": 1700000000, "user": "ann", "lipservice.sample_rate": 0.5}'
    found = read_line(line, 2023)
    assert found.body == line
    assert found.attributes == {b"lipservice.sample_rate": b"0.5"}
    assert found.timestamp == 1_700_000_000_000_000


def test_docker_lines_and_structured_bodies():
    docker = read_line(b'{"log":"2024 ERROR boom\\n","stream":"stderr","time":"2024-05-06T07:08:09Z"}', 2023)
    assert (docker.body, docker.severity, docker.attributes) == (b"2024 ERROR boom", "error", {b"stream": b"stderr"})
    assert read_line(b'{"body":{"a":[1,"\xc5\xbc"]}}', 2023).body == '{"a":[1,"ż"]}'.encode()


@pytest.mark.parametrize(
    "line",
    [b'{"msg": "cut', b"{" * 100_000, b'{"n": ' + b"9" * 5000 + b"}", b"{}", b"{not json}", b"[1]"],
)
def test_what_is_not_a_json_object_is_text_as_it_is(line):
    assert read_line(line, 2023).body == line


def test_octets_that_are_not_utf8_stay_as_they_are_in_the_fields_of_a_json_line():
    found = read_line(b'{"level":"error","message":"raw \xff","service":"svc\xfe","\xfd":"\xfc\xc5\xbc"}', 2023)
    assert (found.body, found.severity, found.service) == (b"raw \xff", "error", b"svc\xfe")
    assert found.attributes == {b"\xfd": b"\xfc\xc5\xbc"}
    nested = read_line(b'{"body":{"a":"\xff"},"resource":{"r":"\xed\xa0\x80"},"attributes":{"x":["\x80"]}}', 2023)
    assert (nested.body, nested.resource) == (b'{"a":"\xff"}', {b"r": b"\xed\xa0\x80"})
    assert nested.attributes == {b"x": b'["\x80"]'}


@given(st.binary(max_size=40).map(lambda octets: bytes(b for b in octets if b >= 32 and b not in b'"\\')))
def test_any_octets_of_a_json_string_are_the_body(octets):
    found = read_line(b'{"level":"warn","msg":"' + octets + b'"}', 2023)
    assert (found.body, found.severity) == (octets, "warn")


@pytest.mark.parametrize(
    ("escaped", "expected"),
    [
        (rb"a\u0000b", b"a\x00b"),
        (rb"\ud800x", b"\xed\xa0\x80x"),
        (rb"\uDC80", b"\xed\xb2\x80"),
        (b"\\udcff\xff", b"\xed\xb3\xbf\xff"),  # the surrogate is not taken for the octet
        (rb"\ud83d\ude00\ude00", b"\xf0\x9f\x98\x80\xed\xb8\x80"),
        (rb"\ud83d\ud83d\ude00", b"\xed\xa0\xbd\xf0\x9f\x98\x80"),
        (rb"\\ud800 \\\ud800", rb"\ud800 " + b"\\\xed\xa0\x80"),
    ],
)
def test_nuls_and_halves_of_surrogate_pairs_are_kept_as_octets(escaped, expected):
    line = b'{"msg":"%b","level":"warn","service":"%b","%b":"%b"}' % ((escaped,) * 4)
    found = read_line(line, 2023)
    assert (found.body, found.severity, found.service) == (expected, "warn", expected)
    assert found.attributes == {expected: expected}


def test_json_lines_with_odd_octets_in_every_field_are_stored_and_lose_nothing(tmp_path):
    odd = [b"\xff", b"\xfe", rb"\ud800", rb"\u0000"]
    line = (
        b'{"time":1700000000,"msg":"%b","level":"l%b","service":"%b","event_name":"e%b",'
        b'"trace_id":"%b","resource":{"r":"%b"},"log":{"level":"%b"}}'
    )
    summary = store_of(b"\n".join(line % ((octets,) * 7) for octets in odd), tmp_path)
    assert sum(summary.counts.values()) == summary.stored == 4
    found = {row["body"]: row for row in rows(tmp_path)}
    assert set(found) == {b"\xff", b"\xfe", b"\xed\xa0\x80", b"\x00"}
    for octets, row in found.items():
        assert (row["service_name"], row["trace_id"]) == (octets, octets)
        assert dict(row["resource_attributes"])[b"r"] == octets
        text = octets.decode("utf-8", "replace")
        assert (row["severity_text"], row["event_name"]) == (f"l{text}", f"e{text}")
        # Where the column cannot hold the octets, the attributes do.
        kept = dict(row["attributes"])
        kept.pop(b"log")
        assert kept == ({} if octets == b"\x00" else {b"level": b"l" + octets, b"event_name": b"e" + octets})
    nested = read_line(b'{"msg":"x","log":{"level":"\xff"}}', 2023)
    assert (nested.severity, nested.attributes) == ("\ufffd", {b"log": b'{"level":"\xff"}'})


def test_infinities_do_not_stop_it():
    for number in (b"1e400", b"NaN", b"-Infinity", b"1" + b"0" * 30):
        assert read_line(b'{"msg":"x","time":' + number + b"}", 2023).timestamp is None


def test_lines_are_stored_with_what_they_say(tmp_path):
    content = (
        b"2026-09-10 10:00:00 ERROR boom\r\nno time\n\n"
        b'{"time":"2026-09-11T00:00:00Z","level":"odd","service":"api","msg":"m","environment":"dev"}\n'
        b"   \n2026-09-11 01:00:00 last without an end"
    )
    summary = store_of(content, tmp_path, environment="prod")
    assert balanced(summary)
    assert (summary.read, summary.stored, summary.blank, summary.bytes) == (6, 4, 2, len(content))
    assert (summary.without_timestamp, summary.without_severity, summary.unknown_severities) == (1, 2, {"odd": 1})
    assert summary.counts == {(7, DAY, "web"): 2, (7, date(2026, 9, 11), "api"): 1, (7, date(2026, 9, 11), "web"): 1}
    first, trace, api, last = rows(tmp_path)
    assert first["body"] == b"2026-09-10 10:00:00 ERROR boom"
    assert (first["severity_text"], first["severity_number"]) == ("error", 17)
    assert (trace["body"], trace["timestamp"]) == (b"no time", first["timestamp"])
    assert (trace["severity_text"], trace["severity_number"]) == ("info", 9)
    assert (api["severity_text"], api["severity_number"], api["service_name"]) == ("odd", 0, b"api")
    assert dict(first["resource_attributes"]) == {
        b"service.name": b"web",
        b"deployment.environment.name": b"prod",
    }
    assert last["body"].endswith(b"without an end")
    assert {row["observed_timestamp"] for row in rows(tmp_path)} == {NOW}
    assert len({row["uuid"] for row in rows(tmp_path)}) == 4


def test_a_resource_that_names_its_environment_keeps_it(tmp_path):
    lines = [
        {"ts": 1700000000, "msg": "a", "resource": {"deployment.environment.name": "dev"}},
        {"ts": 1700000001, "msg": "b", "resource": {"deployment.environment": "old", "service.name": "s"}},
        {"ts": 1700000002, "msg": "c"},
    ]
    store_of("\n".join(map(json.dumps, lines)).encode(), tmp_path, environment="prod", service=None)
    found = [(row["service_name"], dict(row["resource_attributes"])) for row in rows(tmp_path)]
    assert found == [
        (b"", {b"deployment.environment.name": b"dev"}),
        (b"s", {b"deployment.environment": b"old", b"service.name": b"s"}),
        (b"", {b"deployment.environment.name": b"prod"}),
    ]


def test_with_a_day_every_line_lands_on_it_at_its_own_time_of_day(tmp_path):
    content = (
        b"no time yet\n2005-06-03 23:59:59.5 a\nno time\nFeb 29 01:02:03 b\n"
        b"2005-06-03 01:00:00 +0200 c\n1969-12-31 06:00:00 d\n"
    )
    summary = store_of(content, tmp_path, day=DAY)
    assert balanced(summary)
    assert summary.stored == 6
    assert summary.years == ()
    found = {(row["timestamp"].strftime("%Y-%m-%d %H:%M:%S.%f")[:21], row["body"][-7:]) for row in rows(tmp_path)}
    assert found == {
        ("2026-09-10 00:00:00.0", b"ime yet"),
        ("2026-09-10 23:59:59.5", b":59.5 a"),
        ("2026-09-10 23:59:59.5", b"no time"),
        ("2026-09-10 01:02:03.0", b"02:03 b"),
        ("2026-09-10 23:00:00.0", b"+0200 c"),
        ("2026-09-10 06:00:00.0", b"00:00 d"),
    }
    assert counts(tmp_path) == {(7, DAY): 6}


def test_without_a_day_lines_before_the_first_time_of_a_file_are_named_and_rejected(tmp_path):
    (tmp_path / "a.log").write_bytes(b"head\n2026-09-10 10:00:00 a\n")
    (tmp_path / "b.log").write_bytes(b"one\ntwo\nthree\nfour\n2026-09-10 11:00:00 b\ntail\n1700-01-01 00:00:00 old\n")
    rejects = io.BytesIO()
    summary = ingest(
        [tmp_path / "a.log", tmp_path / "b.log"],
        store=tmp_path / "store",
        team_id=1,
        service=None,
        day=None,
        now=NOW,
        rejects=rejects,
    )
    assert balanced(summary)
    assert summary.stored == 3
    no_time = summary.unreadable[NO_TIME]
    assert no_time.lines == 5
    assert no_time.examples == tuple(f"{tmp_path}/{place}" for place in ("a.log:1", "b.log:1", "b.log:2"))
    assert summary.unreadable[OUT_OF_RANGE].examples == (f"{tmp_path}/b.log:7",)
    assert rejects.getvalue() == b"head\none\ntwo\nthree\nfour\n1700-01-01 00:00:00 old\n"


def test_years_come_from_the_argument_else_from_now(tmp_path):
    line = b"Jun 14 15:16:01 combo sshd: x\n"
    assert store_of(line, tmp_path / "a").years == (2026, 2026)
    summary = store_of(line, tmp_path / "b", year=2005)
    assert (summary.without_year, summary.years) == (1, (2005, 2005))
    assert rows(tmp_path / "b")[0]["timestamp"].year == 2005


def test_any_octets_go_through_and_clickhouse_sees_them(tmp_path):
    bodies = [b"2026-09-10 10:00:00 " + bytes(b for b in range(256) if b != 10), b"\x00", b"\xff\xfe", b"z" * 3_000_000]
    assert store_of(b"\n".join(bodies), tmp_path).stored == 4
    client = clickhouse_connect.get_client(interface="chdb")
    found = client.query(
        f"SELECT hex(body) FROM file('{tmp_path}/logs/team_id=*/day=*/*.parquet', Parquet)"
    ).result_rows
    assert sorted(row[0] for row in found) == sorted(body.hex().upper() for body in bodies)


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from([b"", b" ", b"2026-09-10 10:00:00 x", b'{"msg":"m"}', b"\r", b'{"time":9e17,"msg":1}']),
            st.text(max_size=30).map(str.encode),
        ),
        max_size=30,
    ),
    day=st.sampled_from([None, DAY]),
    chunk=st.integers(1, 50),
    batch=st.integers(1, 7),
)
def test_every_line_is_stored_or_blank_or_unreadable(lines, day, chunk, batch):
    content = b"\n".join(lines)
    before = inputs.CHUNK_BYTES, ingest_reader.BATCH_LINES
    inputs.CHUNK_BYTES, ingest_reader.BATCH_LINES = chunk, batch
    try:
        with tempfile.TemporaryDirectory() as folder:
            rejects = io.BytesIO()
            summary = store_of(content, Path(folder), day=day, rejects=rejects)
            expected = content.removeprefix("\ufeff".encode()).split(b"\n")
            if expected[-1] == b"":
                expected.pop()
            assert summary.read == len(expected)
            assert balanced(summary)
            assert summary.blank == sum(not line or line.isspace() for line in expected)
            assert summary.stored == sum(counts(Path(folder)).values()) == sum(summary.counts.values())
            assert len(rejects.getvalue().split(b"\n")) - 1 == summary.not_stored
            if day is not None:
                assert summary.not_stored == 0
            stored = sorted(line for row in rows(Path(folder)) for line in row["body"].split(b"\n"))
            if not any(line.lstrip()[:1] == b"{" for line in expected) and summary.not_stored == 0:
                assert stored == sorted(line.removesuffix(b"\r") for line in expected if line and not line.isspace())
    finally:
        inputs.CHUNK_BYTES, ingest_reader.BATCH_LINES = before


def test_lines_do_not_depend_on_where_chunks_end(monkeypatch):
    content = b"".join([b"a", b"\n", b"bc"][i * i % 7 % 3] for i in range(300))
    for size in (1, 2, 3, 7, 1000):
        monkeypatch.setattr(inputs, "CHUNK_BYTES", size)
        found = [line for lines, _ in lines_of(io.BytesIO(content)) for line in lines]
        assert found == content.removesuffix(b"\n").split(b"\n")


@pytest.mark.parametrize("chunk", [3, 10, 25])
def test_a_line_without_an_end_in_sight_is_refused_and_the_next_ones_are_read(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(inputs, "CHUNK_BYTES", chunk)
    monkeypatch.setattr(inputs, "MAX_LINE_BYTES", 30)
    rejects = io.BytesIO()
    content = b"before\n" + b"x" * 95 + b"\nafter\n" + b"y" * 31
    summary = store_of(content, tmp_path, day=DAY, rejects=rejects)
    assert balanced(summary)
    assert (summary.read, summary.stored) == (4, 2)
    assert summary.unreadable[TOO_LONG].examples == ("<stdin>:2", "<stdin>:4")
    assert rejects.getvalue() == b"x" * 30 + b"\n" + b"y" * 30 + b"\n"


def test_progress_ends_at_the_size_of_the_files_and_gzip_is_read(tmp_path):
    line = b"2026-09-10 10:00:00 INFO x\n"
    (tmp_path / "a.log").write_bytes(line * 1000)
    (tmp_path / "b.log.gz").write_bytes(gzip.compress(line * 500))
    paths = [tmp_path / "a.log", tmp_path / "b.log.gz"]
    seen: list[int] = []
    summary = ingest(paths, store=tmp_path / "s", team_id=1, service=None, day=None, now=NOW, progress=seen.append)
    assert (summary.stored, summary.bytes) == (1500, 1500 * len(line))
    assert seen == sorted(seen)
    assert seen[-1] == sum(path.stat().st_size for path in paths)


@pytest.mark.parametrize("broken", ["missing", "cut.gz", "text.gz"])
def test_an_input_that_cannot_be_read_stores_nothing_and_is_named(tmp_path, broken):
    good = tmp_path / "good.log"
    good.write_bytes(b"2026-09-10 10:00:00 x\n")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"2026-09-10 10:00:00 x\n" * 100)[:-12])
    (tmp_path / "text.gz").write_bytes(b"not compressed")
    with pytest.raises(IngestError, match=rf"{broken}.*Nothing was stored"):
        ingest([good, tmp_path / broken], store=tmp_path / "s", team_id=1, service=None, day=None, now=NOW)
    assert counts(tmp_path / "s") == {}


def test_now_needs_a_zone(tmp_path):
    with pytest.raises(ValueError, match="no time zone"):
        store_of(b"x", tmp_path, now=datetime(2026, 9, 12))


def run(root: Path, *paths: Path, **options: Any) -> int:
    usual: dict[str, Any] = {"team_id": 1, "service": "web", "day": None, "now": NOW}
    return run_ingest(list(paths), store=root / "store", **usual | options)


def test_the_command_prints_what_became_of_the_lines(tmp_path, capsys):
    (tmp_path / "a.log").write_bytes(b"early\n\n2026-09-10 10:00:00 level=odd x\nJun 14 15:16:01 y\n")
    assert run(tmp_path, tmp_path / "a.log", rejects=tmp_path / "rejects") == 0
    printed = capsys.readouterr()
    assert "4 lines read" in printed.out
    assert "2 stored, 1 blank, 1 unreadable" in printed.out
    assert f"warning: 1 not stored: {NO_TIME}; first: {tmp_path}/a.log:1" in printed.out
    assert "odd (1)" in printed.out
    assert "placed in 2026" in printed.out
    assert "2026-09-10" in printed.out
    assert printed.err == ""  # no progress where it is not a terminal
    assert (tmp_path / "rejects").read_bytes() == b"early\n"


def test_a_file_may_have_any_octets_in_its_name(tmp_path, capsys):
    name = os.fsdecode(b"bad\xff")
    (tmp_path / name).mkdir()
    for file in ("a.log", "b.zip"):
        (tmp_path / name / (name + file)).write_bytes(b"2026-09-10 10:00:00 x\n" if file == "a.log" else bytes(99))
    assert run(tmp_path, tmp_path / name, rejects=tmp_path / "rejects") == 0
    assert "bad\ufffdb.zip (it holds no text)" in capsys.readouterr().out
    assert run(tmp_path, tmp_path / name / (name + "a.log")) == 0
    assert "bad\ufffda.log was stored before" in capsys.readouterr().out
    assert run(tmp_path, tmp_path / name / (name + "b.zip")) == 1
    assert "bad\ufffdb.zip" in capsys.readouterr().err


def test_the_command_reads_standard_input(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"2026-09-10 10:00:00 [bold]x\n")))
    assert run(tmp_path) == 0
    assert counts(tmp_path / "store") == {(1, DAY): 1}
    assert "1 stored" in capsys.readouterr().out


def test_the_command_fails_where_nothing_was_stored(tmp_path, capsys):
    for content in (b"", b"\n\n", b"no time\n"):
        (tmp_path / "a.log").write_bytes(content)
        assert run(tmp_path, tmp_path / "a.log") == 1
        assert "nothing was stored" in capsys.readouterr().out
    assert run(tmp_path, tmp_path / "nowhere.log") == 1
    assert "nowhere.log is not there" in capsys.readouterr().err


def test_the_command_does_not_write_rejects_over_an_input_and_says_when_they_cannot_be_written(tmp_path, capsys):
    (tmp_path / "a.log").write_bytes(b"no time\n" * 3)
    assert run(tmp_path, tmp_path / "a.log", rejects=tmp_path / "a.log") == 1
    assert "one of the inputs" in capsys.readouterr().err
    assert run(tmp_path, tmp_path, rejects=tmp_path / "new") == 1
    assert "one of the inputs" in capsys.readouterr().err
    assert (tmp_path / "a.log").read_bytes() == b"no time\n" * 3
    assert run(tmp_path, tmp_path / "a.log", rejects=tmp_path / "none" / "r") == 1
    assert "No such file" in capsys.readouterr().err


def test_rejects_on_a_full_disk_store_nothing(tmp_path):
    class Full(io.BytesIO):
        def write(self, octets, /):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        store_of(b"no time\n2026-09-10 10:00:00 x\n", tmp_path, rejects=Full())
    assert counts(tmp_path) == {}
