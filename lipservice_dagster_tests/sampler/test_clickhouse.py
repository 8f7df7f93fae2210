"""The SQL of repair and masks gives the text Python gives, in the real engine."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from typing import Any

import clickhouse_connect
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lipservice_sampler.clickhouse import fold_sql, mask_sql, repair_sql, string_literal
from lipservice_sampler.masks import fold, mask
from lipservice_sampler.matching import template_regex
from lipservice_sampler.text import repair

FRAGMENTS = (
    "abc",
    " ",
    "  ",
    "\n",
    "\t",
    "\r",
    "\x0b",
    "\x0c",
    "1",
    "23",
    "0x1f",
    "ssh2",
    "L3",
    "jk2_init",
    "\0",
    "␀",
    "é",
    "日本",
    "<*>",
    "<",
    ">",
    "=",
    '"',
    "'",
    "\\",
    "true",
    "null",
    ".",
    "...",
    "-",
    "_",
    ":",
    "::",
    "/",
    "/a/b?c=1",
    "://x/y.z",
    "2026-01-02T03:04:05Z",
    "Jul  1 08:16:53",
    "a@b.co",
    "\n\tat foo(Bar.java:1)",
    '\n  File "x", line 1, in f\n    y()',
    "\n... 3 more",
    "at a(b)",
    "\x1b[31m",
    " 5 KB",
    "KB",
    "+",
    "@",
    "#",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    "%",
    "$",
    ",",
    ";",
    "|",
    "^",
    "~",
    "*",
    "?",
    "!",
    "&",
    "fe80::1",
    "aa:bb:cc:dd:ee:ff",
    "node1.b2.c:80",
    "C:\\x\\y",
    "deadbeef",
    "Foo.go:12",
    "localhost:80",
    "\ufffd",
    "\ufffd\ufffd",
)

MESSAGES = st.lists(
    st.one_of(st.sampled_from(FRAGMENTS).map(str.encode), st.binary(max_size=4), st.text(max_size=4).map(str.encode)),
    max_size=12,
).map(b"".join)


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    client = clickhouse_connect.get_client(interface="chdb")
    yield client
    client.close()


def _through_sql(engine: Any, messages: list[bytes]) -> list[tuple[str, str, str]]:
    encoded = [base64.b64encode(m).decode() for m in messages]
    query = f"""
        SELECT {repair_sql("body")} AS repaired, {mask_sql("repaired")} AS masked,
            {mask_sql(fold_sql("repaired"))} AS from_folded
        FROM (
            SELECT tupleElement(pair, 1) AS place, base64Decode(tupleElement(pair, 2)) AS body
            FROM (SELECT arrayJoin(arrayZip(range(length({{x:Array(String)}})), {{x:Array(String)}})) AS pair)
        ) ORDER BY place"""
    rows = engine.query(query, parameters={"x": encoded}).result_rows
    assert len(rows) == len(messages)
    return [tuple(row) for row in rows]


def _agree(engine: Any, messages: list[bytes]) -> None:
    for raw, (repaired, masked, from_folded) in zip(messages, _through_sql(engine, messages), strict=True):
        assert repaired == repair(raw), raw[:200]
        assert masked == mask(repair(raw)), raw[:200]
        assert from_folded == masked


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(MESSAGES, min_size=1, max_size=40))
def test_sql_and_python_give_the_same_text(engine: Any, messages: list[bytes]) -> None:
    _agree(engine, messages)


def test_sql_and_python_agree_on_a_thousand_mixed_messages(engine: Any) -> None:
    rng = random.Random(11)
    parts = [f.encode() for f in FRAGMENTS] + [bytes([b]) for b in range(256)]
    _agree(engine, [b"".join(rng.choices(parts, k=rng.randrange(20))) for _ in range(1000)])


def test_sql_and_python_agree_at_the_limits(engine: Any) -> None:
    _agree(
        engine,
        [
            b"",
            b"\xff" * 9,
            b"\xed\xa0\x80x",
            b"\xf4\x90\x80\x80",
            b"\xc0\x80",
            b"\xe2\x82",
            b"tail \xf0*",
            b"a\xef\xbf\xbd\xff",
            b"x" * 1_000_000,
            b"\xff1 " * 300_000,
            "é1 ".encode() * 250_000,
            b"\0" * 10_000,
            b"a=1, " * 5_000,
        ],
    )


def test_folding_first_costs_no_accuracy(engine: Any) -> None:
    raw = b"user 17 at 10.1.2.3 \xff ssh2"
    sql = f"SELECT {fold_sql(repair_sql('body'))} FROM (SELECT base64Decode({{b:String}}) AS body)"
    folded = engine.query(sql, parameters={"b": base64.b64encode(raw).decode()}).result_rows[0][0]
    assert folded == fold(repair(raw))
    assert mask(folded) == mask(repair(raw))


@given(st.text(max_size=30))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_literal_is_read_back_as_written(engine: Any, text: str) -> None:
    assert engine.query(f"SELECT {string_literal(text)} AS x").result_rows == [(text,)]


def test_a_literal_refuses_what_is_not_text() -> None:
    with pytest.raises(ValueError, match="lone surrogate at character 1"):
        string_literal("a\ud800")


def test_a_templates_pattern_works_in_re2(engine: Any) -> None:
    raws = [
        "open(/a b/c.txt) failed: [Errno 2] 'x' via ssh2 {a|b} $5 ^ ok? 50%",
        '{"level":"info","msg":"a.b*c","n":17}',
        "Request 7 failed\njava.io.IOException: no\n\tat a.b(C.java:1)\nCaused by: x.Y: z\n\t... 3 more",
        "panic: no [7]\n\ngoroutine 1 [running]:\nmain.f(0x1)\n\t/x/main.go:7 +0x1d\nexit status 2",
        "\x1b[32mINFO\x1b[0m up after \x1b[1m17\x1b[0m ms",
    ]
    for raw in raws:
        literals = string_literal(raw), string_literal(template_regex(mask(raw)))
        assert engine.query(f"SELECT match({literals[0]}, {literals[1]})").result_rows == [(1,)]
        assert engine.query(f"SELECT match({string_literal('x' + raw)}, {literals[1]})").result_rows == [(0,)]
