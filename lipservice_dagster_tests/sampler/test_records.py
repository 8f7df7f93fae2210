"""What a record says of itself, in Python as in ClickHouse's SQL."""

import clickhouse_connect
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from lipservice_dagster.core.frames import SEVERITIES
from lipservice_dagster.sources.sql import micro_weight_sql, severity_sql
from lipservice_sampler.clickhouse import string_literal
from lipservice_sampler.decision import SEVERITY_NAMES, severity_name
from lipservice_sampler.records import MICRO, RATE_KEYS, micro_weight, severity

CLIENT = clickhouse_connect.get_client(interface="chdb")

ODD = [
    "",
    '"0.25"',
    "1",
    "0",
    "-1",
    "nan",
    "inf",
    "1e-30",
    ".5",
    "1.",
    "c",
    "8",
    "ffffffffffffff",
    "1\n",
    '""',
    "1e400",
]
stamps = st.one_of(
    st.sampled_from(ODD),
    st.floats(0, 1).map(str),
    st.integers(1, 10**7).map(lambda n: f"{n / 1000:.3g}"),
    st.integers(0, 2**56 - 1).map(lambda t: f"{t:014x}".rstrip("0")),
    st.text('0123456789.e-+abcdef" x', max_size=8),
)
texts = st.one_of(
    st.sampled_from([*SEVERITY_NAMES, "chatty"]).flatmap(
        lambda word: st.sampled_from([word, word.upper(), word.title(), f" {word} "])
    ),
    st.text("aeinortwEIRF \té", max_size=6),
)


def asked(expression: str, **columns: list[str]) -> list[int]:
    """The values of an expression over rows, given as SQL literals by column, in their order."""
    rows = ", ".join(f"[{', '.join(literals)}] AS {name}" for name, literals in columns.items())
    return CLIENT.query_arrow(f"SELECT {expression} AS v FROM system.one ARRAY JOIN {rows}").column("v").to_pylist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(stamps, stamps, stamps, st.booleans()), min_size=1, max_size=40))
def test_a_weight_is_the_same_in_sql(rows):
    maps = [
        "map({})".format(
            ", ".join(
                f"'{key}', {string_literal(value)}"
                for key, value in zip(RATE_KEYS, row[:3], strict=True)
                if value or row[3]
            )
            or "'other', 'x'"
        )
        for row in rows
    ]
    assert asked(micro_weight_sql(), attributes=maps) == [micro_weight(*row[:3]) for row in rows]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(texts, st.integers(-3, 30)), min_size=1, max_size=40))
def test_a_severity_is_the_same_in_sql_and_at_the_edge(rows):
    literals = {
        "severity_text": [string_literal(text) for text, _ in rows],
        "severity_number": [f"toInt32({number})" for _, number in rows],
    }
    found = [SEVERITIES[place] for place in asked(severity_sql(), **literals)]
    assert found == [severity(text, number) for text, number in rows]
    assert all(severity(text, 0) == severity_name(text) for text, _ in rows if not set(text) & set("\t"))


@given(stamps, stamps, stamps)
def test_no_log_stands_for_less_than_itself(own, threshold, vector):
    assert micro_weight(own, threshold, vector) >= MICRO


def test_weights_are_written_with_the_logs():
    from lipservice_dagster.local.log_store import LOGS_SCHEMA, stored
    from lipservice_dagster_tests.logs import log

    logs = [log("a"), log("b", attributes={"x": "1", "sample_rate": "10"}, severity="ERR"), log("c", severity_number=5)]
    table = stored(pa.Table.from_pylist([*logs, log("d", severity="", severity_number=5)], schema=LOGS_SCHEMA))
    assert table["weight"].to_pylist() == [MICRO, 10 * MICRO, MICRO, MICRO]
    assert [SEVERITIES[place] for place in table["severity"].to_pylist()] == ["info", "error", "info", "debug"]
