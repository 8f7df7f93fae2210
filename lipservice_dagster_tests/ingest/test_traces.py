"""Lines of a stack trace become one log, and a crash is not hidden in what was said before it."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lipservice_dagster.ingest import ingest, reader


def logs_of(text: str, root: Path) -> list[tuple[str, str]]:
    """Severity and body of what is stored of a text, in the order of its lines."""
    options = {"team_id": 1, "service": None, "day": date(2026, 9, 10), "now": datetime(2026, 9, 12, tzinfo=UTC)}
    summary = ingest(io.BytesIO(text.encode()), store=root, **options)  # type: ignore[arg-type]
    assert summary.read == summary.stored + summary.joined + summary.blank
    tables = [pq.read_table(path, partitioning=None) for path in root.glob("logs/*/*/*.parquet")]
    rows = [row for table in tables for row in table.to_pylist()]
    found = [(row["severity_text"], row["body"].decode()) for row in rows]
    return sorted(found, key=lambda log: text.index(log[1].split("\n")[0]))


PYTHON = """Traceback (most recent call last):
  File "a.py", line 1, in <module>
    f()
KeyError: 'x'"""
CHAINED = (
    PYTHON + "\n\nDuring handling of the above exception, another exception occurred:\n\n" + PYTHON.replace("a.py", "b")
)
JAVA = """java.io.IOException: disk
\tat a.B.c(B.java:1)
\t... 12 more
Caused by: java.lang.NullPointerException
\tat d.E.f(E.java:2)"""
GO = """panic: runtime error: index out of range

goroutine 1 [running]:
main.main()
\t/src/main.go:7 +0x1d
exit status 2"""
NODE = """TypeError: x is not a function
    at f (/app/a.js:1:2)
    at Object.<anonymous> (/app/b.js:3:4)"""
RUST_BELOW = """thread 'main' panicked at src/main.rs:2:5:
index out of bounds
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
stack backtrace:
   0: rust_begin_unwind
             at /rustc/x/library/std/src/panicking.rs:645:5"""
RUBY = """app/models/x.rb:1:in `f': no such thing (Shop::Missing)
app/controllers/y.rb:2:in `block in g'
\tfrom /usr/lib/ruby/z.rb:3:in `call'"""
NODE_CODE = """TypeError: Cannot read properties of undefined
    at Object.<anonymous> (/app/i.js:1:2) {
  code: 'E',
  [cause]: Error: inner
      at f (/app/x.js:1:1)
}"""
RUST = """thread 'main' panicked at src/main.rs:2:5:
   0: std::panicking::begin_panic
note: run with `RUST_BACKTRACE=1` to see more"""


@pytest.mark.parametrize(
    "trace",
    [PYTHON, CHAINED, JAVA, GO, NODE, NODE_CODE, RUST, RUST_BELOW, RUBY],
    ids=["py", "chained", "java", "go", "js", "js code", "rs", "rs below", "rb"],
)
def test_a_trace_goes_with_the_error_before_it_and_else_is_an_error_of_its_own(tmp_path, trace):
    severity = "fatal" if trace in (GO, RUST, RUST_BELOW) else "error"
    whole = "\n".join(line for line in trace.split("\n") if line)
    after = "2026-09-10 10:00:01 INFO next"
    found = logs_of(f"2026-09-10 10:00:00 ERROR boom\n{trace}\n{after}\n", tmp_path / "error")
    assert found == [("error", f"2026-09-10 10:00:00 ERROR boom\n{whole}"), ("info", after)]
    found = logs_of(f"2026-09-10 10:00:00 INFO fine\n{trace}\n{after}\n", tmp_path / "info")
    assert found == [("info", "2026-09-10 10:00:00 INFO fine"), (severity, whole), ("info", after)]


@pytest.mark.parametrize(
    "exception",
    [
        "app.errors.NotFound: no such thing",
        "SystemExit: 3",
        "StopIteration",
        "myapp.models.User.DoesNotExist: ERROR in it",
        "KeyError: '2024-05-06 07:08:09'",
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for M\na\n  Input should be a number\nb.c",
    ],
)
def test_the_line_that_ends_a_traceback_of_python_is_of_it_whatever_the_exception_is_called(tmp_path, exception):
    trace = PYTHON.replace("KeyError: 'x'", exception)
    after = "2026-09-10 10:00:01 INFO next"
    assert logs_of(f"2026-09-10 10:00:00 INFO fine\n{trace}\n{after}\n", tmp_path)[1:] == [
        ("error", trace),
        ("info", after),
    ]


@pytest.mark.parametrize("line", ["2026-09-10 10:00:01 x", "INFO: 2026-09-10 10:00:01 x", '{"msg": "x"}'])
def test_a_log_behind_a_traceback_that_was_cut_is_its_own(tmp_path, line):
    cut = PYTHON.rpartition("\n")[0]
    assert [severity for severity, _ in logs_of(f"{cut}\n{line}\n", tmp_path)] == ["error", "info"]


def test_what_is_said_behind_a_traceback_and_the_next_one_are_logs_of_their_own(tmp_path):
    traces = [PYTHON, PYTHON.replace("x", "y"), PYTHON.replace("x", "z")]
    found = logs_of("\n".join([traces[0], "going on", *traces[1:], ""]), tmp_path)
    assert sorted(found) == sorted([("info", "going on"), *(("error", trace) for trace in traces)])


@pytest.mark.parametrize(
    ("first", "rest", "severity"),
    [
        ("2026/09/10 10:00:00 http: panic serving 127.0.0.1:1: oh", "goroutine 1 [running]:\nmain.main()", "error"),
        ("[10-Sep-2026 10:00:00 UTC] PHP Fatal error:  Uncaught Exception: x in /a.php:1",
         "Stack trace:\n#0 /b.php(2): f()\n#1 {main}\n  thrown in /a.php on line 1", "fatal"),
        ("PHP Warning:  Undefined variable", "#0 /b.php(2): f()", "warn"),
        ("E, [2026-09-10T10:00:00.123456 #1] ERROR -- : failed", "app/x.rb:1:in `f'\napp/y.rb:2:in 'X#g'", "error"),
        ("Error: x", "    at Object.<anonymous> (/app/i.js:1:2)", "error"),
        ("2026-09-10 10:00:00 request failed", "\tat a.B.c(B.java:1)", "error"),
        ("2026-09-10 10:00:00 INFO where we are", "\tat a.B.c(B.java:1)", "info"),
        ('"main" #1 prio=5', "   java.lang.Thread.State: RUNNABLE\n\tat a.B.c(B.java:1)", "info"),
        ("goroutine 7 [running]:", "main.f(0x1, {0x2, 0x3})\n\t/app/main.go:12 +0x45", "error"),
        ("ActiveRecord::RecordInvalid (Validation failed: x):", "app/x.rb:1:in `f'", "error"),
    ],
)  # fmt: skip
def test_the_line_above_a_stack_makes_an_error_of_it_unless_it_says_otherwise(tmp_path, first, rest, severity):
    assert logs_of(f"2026-09-10 09:00:00 INFO a\n{first}\n{rest}\n", tmp_path)[1:] == [(severity, f"{first}\n{rest}")]


def test_a_crash_does_not_hide_behind_the_stack_of_something_else(tmp_path):
    dump = "goroutine 1 [running]:\nmain.main()\n\t/app/main.go:10 +0x1"
    whole = "\n".join(line for line in GO.split("\n") if line)
    assert logs_of(f"{dump}\n{GO}\n", tmp_path) == [("error", dump), ("fatal", whole)]


def test_a_group_of_exceptions_is_an_error_of_its_own(tmp_path):
    group = "  + Exception Group Traceback (most recent call last):\n  | ExceptionGroup: many\n  +-+--- 1 ---"
    assert logs_of(f"2026-09-10 09:00:00 INFO a\n{group}\n", tmp_path)[1] == ("error", group)


def test_indented_lines_go_with_the_line_before_them_and_others_do_not(tmp_path):
    text = "2026-09-10 10:00:00 UTC [1] LOG:  statement\n\tSELECT 1\n\tFROM t\nplain\n  ERROR of its own\n"
    bodies = [body for _, body in logs_of(text, tmp_path)]
    assert bodies == [
        "2026-09-10 10:00:00 UTC [1] LOG:  statement\n\tSELECT 1\n\tFROM t",
        "plain",
        "  ERROR of its own",
    ]


def test_traces_that_a_containers_runtime_wrapped_line_by_line_are_joined(tmp_path):
    text = "".join(
        f"2026-09-10T10:00:0{i}.000000000Z stderr F {line}\n" for i, line in enumerate(["ERROR x", *PYTHON.split("\n")])
    )
    options = {"team_id": 1, "service": None, "day": None, "now": datetime(2026, 9, 12, tzinfo=UTC)}
    summary = ingest(io.BytesIO(text.encode()), store=tmp_path, **options)  # type: ignore[arg-type]
    assert (summary.stored, summary.joined) == (1, 4)


def test_parts_of_a_long_line_that_the_runtime_cut_are_put_together(tmp_path):
    text = "2026-09-10T10:00:00Z stdout P WARN ab\n2026-09-10T10:00:00Z stdout F cd\n2026-09-10T10:00:01Z stdout F ef\n"
    options = {"team_id": 1, "service": None, "day": None, "now": datetime(2026, 9, 12, tzinfo=UTC)}
    ingest(io.BytesIO(text.encode()), store=tmp_path, **options)  # type: ignore[arg-type]
    (path,) = tmp_path.glob("logs/*/*/*.parquet")
    rows = pq.read_table(path, partitioning=None).to_pylist()
    assert [(row["body"], row["severity_text"]) for row in rows] == [(b"WARN abcd", "warn"), (b"ef", "info")]


def test_a_log_does_not_grow_without_end_and_none_is_lost_between_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "MAX_JOINED_BYTES", 100)
    monkeypatch.setattr(reader, "BATCH_LINES", 2)
    lines = ["2026-09-10 10:00:00 INFO x", *(f"  line {i:04}" for i in range(60))]
    found = logs_of("\n".join(lines), tmp_path)
    assert [line for _, body in found for line in body.split("\n")] == lines
    assert 1 < len(found) < 20


def test_a_file_does_not_go_on_with_the_one_before_it(tmp_path):
    (tmp_path / "a.log").write_bytes(b"2026-09-10 10:00:00 ERROR a\n")
    (tmp_path / "b.log").write_bytes(b"\tat b.C(D.java:1)\nCaused by: b\n")
    options = {"team_id": 1, "service": None, "day": date(2026, 9, 10), "now": datetime(2026, 9, 12, tzinfo=UTC)}
    summary = ingest([tmp_path / "a.log", tmp_path / "b.log"], store=tmp_path / "s", **options)  # type: ignore[arg-type]
    assert (summary.stored, summary.joined) == (2, 1)


def test_an_empty_line_that_a_runtime_wrapped_is_read(tmp_path):
    text = "2026-09-10T10:00:00Z stdout F \n2026-09-10T10:00:01Z stdout F INFO x\n"
    assert [body for _, body in logs_of(text, tmp_path)] == ["", "INFO x"]
