from collections import Counter
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lipservice_dagster.local.demo_logs import (
    CATALOGUE,
    SEVERITY_NUMBERS,
    TEAM_NAMES,
    generate,
    incidents,
    team_ids,
    team_name,
)
from lipservice_dagster.local.log_store import LOGS_SCHEMA

UNTIL = date(2026, 9, 10)  # a Thursday
DAYS = 8


def day_of(team_id: int, back: int = 0, **options) -> pa.Table:
    return generate(team_id, UNTIL - timedelta(days=back), until=UNTIL, days=DAYS, **options)


def octets(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def hourly(table: pa.Table, service: str, beginning: str = "") -> np.ndarray:
    """Logs an hour of a service whose body starts so, shape (24,)."""
    chosen = pc.and_(
        pc.equal(table["service_name"], service.encode()), pc.starts_with(table["body"], beginning.encode())
    )
    hours = pc.hour(table.filter(chosen)["timestamp"].cast(pa.timestamp("us"))).to_numpy()
    return np.bincount(hours, minlength=24)


def test_the_same_arguments_give_the_same_octets_and_another_seed_or_day_does_not():
    one = octets(day_of(2, 3))
    assert octets(day_of(2, 3)) == one
    assert octets(day_of(2, 3, seed=8)) != one
    assert octets(day_of(2, 2)) != one


def test_an_ordinary_day_does_not_depend_on_how_many_days_are_made():
    day = UNTIL - timedelta(days=2)
    assert generate(1, day, until=UNTIL, days=3).equals(generate(1, day, until=UNTIL, days=30))


@pytest.mark.parametrize("team_id", [1, 2, 3, 4, 8])
def test_a_day_has_the_schema_its_own_timestamps_and_about_the_volume_asked_for(team_id):
    table = day_of(team_id, 1)
    assert table.schema.equals(LOGS_SCHEMA)
    assert table.num_rows == pytest.approx(30_000, rel=0.15)
    start = datetime(2026, 9, 9, tzinfo=UTC)
    stamps = table["timestamp"]
    assert pc.min(stamps).as_py() >= start
    assert pc.max(stamps).as_py() < start + timedelta(days=1)
    delays = pc.subtract(table["observed_timestamp"].cast(pa.int64()), stamps.cast(pa.int64()))
    assert pc.min(delays).as_py() > 0
    assert pc.max(delays).as_py() < 5_000_000
    assert pc.count_distinct(table["uuid"]).as_py() == table.num_rows
    numbers = set(zip(table["severity_text"].to_pylist(), table["severity_number"].to_pylist(), strict=True))
    assert numbers <= set(SEVERITY_NUMBERS.items())


@pytest.mark.parametrize("team_id", [1, 2, 3])
def test_errors_and_warnings_are_few_but_there_and_chatter_is_much(team_id):
    counts = Counter(day_of(team_id, 1)["severity_text"].to_pylist())
    total = counts.total()
    assert 0.001 < counts["error"] / total < 0.02
    assert 0.005 < counts["warn"] / total < 0.05
    assert counts["debug"] / total > 0.35


def test_a_team_has_forty_to_eighty_patterns_in_three_or_four_services_with_rare_ones():
    for team in CATALOGUE:
        patterns = [p for service in team.services for p in service.patterns]
        assert 3 <= len(team.services) <= 4
        assert 40 <= len(patterns) <= 80
        assert len({p.text for p in patterns}) == len(patterns)
        assert sum(p.rare for p in patterns) >= 3


def test_each_service_has_its_own_busy_hours_and_weekends_are_quieter():
    table = day_of(2, 1)
    for service in CATALOGUE[1].services:
        counts = hourly(table, service.name)
        around = counts[[(service.peak + h) % 24 for h in (-1, 0, 1)]].sum()
        against = counts[[(service.peak + 12 + h) % 24 for h in (-1, 0, 1)]].sum()
        assert around > 1.5 * against
    saturday = day_of(2, 5)
    assert saturday.num_rows < 0.85 * table.num_rows


def test_hourly_counts_vary_more_than_poisson():
    days = np.stack([hourly(day_of(1, back), "storefront-web", "") for back in (1, 2, 6, 7)])  # weekdays
    expected = days.mean(axis=0)
    assert ((days - expected) ** 2 / expected).sum() / (3 * 24) > 1.5


def test_bodies_have_the_forms_real_services_write():
    bodies = b"\n\0".join(body for team in (1, 2, 3) for body in day_of(team, 1)["body"].to_pylist()).decode()
    for part in (
        "Traceback (most recent call last):\n",
        "\tat java.base/java.lang.Thread.run(",
        '{"ts":"2026-09-09T',
        '"GET /healthz HTTP/1.1" 200',
        " queue=",
        "Gateway time-out for order ord_",
        "level=warn msg=",
    ):
        assert part in bodies
    assert "${" not in bodies


def test_staging_is_one_services_and_pods_and_traces_are_named():
    table = day_of(1, 1)
    environments = Counter(
        (service.decode(), dict(resource)[b"deployment.environment.name"].decode())
        for service, resource in zip(
            table["service_name"].to_pylist(), table["resource_attributes"].to_pylist(), strict=True
        )
    )
    staging = {service for service, environment in environments if environment == "staging"}
    assert staging == {"order-worker"}
    assert ("order-worker", "production") in environments
    pods = {dict(r)[b"k8s.pod.name"] for r in table["resource_attributes"].to_pylist()}
    assert 10 <= len(pods) <= 20
    lengths = Counter(len(trace) for trace in table["trace_id"].to_pylist())
    assert set(lengths) == {0, 24}
    assert lengths[24] > 1000


def found(kind: str, teams: int = 3):
    return next(i for i in incidents(UNTIL, DAYS, teams) if i.kind == kind and i.day == UNTIL)


def usual(team_id: int, service: str, beginning: str = "") -> np.ndarray:
    return np.mean([hourly(day_of(team_id, back), service, beginning) for back in (1, 2, 6, 7)], axis=0)


def test_every_kind_of_incident_is_on_the_last_day_and_an_older_one_only_with_six_days():
    for teams in (1, 2, 3, 4, 7):
        last = incidents(UNTIL, 3, teams)
        assert {i.kind for i in last} == {"rate_spike", "error_surge", "new_pattern", "vanished_pattern"}
        assert {i.day for i in last} == {UNTIL}
        assert {i.team_id for i in last} == set(team_ids(teams))
        older = [i for i in incidents(UNTIL, 6, teams) if i.day != UNTIL]
        assert len(older) == 1
        assert UNTIL - timedelta(days=6) < older[0].day


def test_the_volume_spike_is_five_times_the_usual_in_its_hours_only():
    spike = found("rate_spike")
    inside = slice(spike.start_hour, spike.end_hour)
    today, before = hourly(day_of(spike.team_id), spike.service), usual(spike.team_id, spike.service)
    assert today[inside].sum() > 4 * before[inside].sum()
    assert today[: spike.start_hour].sum() < 1.3 * before[: spike.start_hour].sum()


def test_the_error_surge_is_twenty_times_the_usual():
    surge = found("error_surge")
    beginning = surge.pattern.split("<*>")[0]
    inside = slice(surge.start_hour, surge.end_hour)
    today, before = (
        hourly(day_of(surge.team_id), surge.service, beginning),
        usual(surge.team_id, surge.service, beginning),
    )
    assert 12 < today[inside].sum() / before[inside].sum() < 32
    assert 0 < before.sum() < 150


def test_the_new_pattern_was_never_seen_before_its_hour():
    new = found("new_pattern")
    beginning = new.pattern.split("<*>")[0]
    counts = hourly(day_of(new.team_id), new.service, beginning)
    assert counts[: new.start_hour].sum() == 0
    assert 300 < counts.sum() < 800
    assert sum(hourly(day_of(new.team_id, back), new.service, beginning).sum() for back in range(1, DAYS)) == 0


def test_the_pattern_that_stops_had_fifty_an_hour_every_hour_before():
    gone = found("vanished_pattern")
    beginning = gone.pattern.split("<*>")[0]
    assert hourly(day_of(gone.team_id), gone.service, beginning).sum() == 0
    assert usual(gone.team_id, gone.service, beginning).min() >= 50


def test_teams_are_named_and_further_ones_differ():
    assert team_ids(3) == [1, 2, 3] == sorted(TEAM_NAMES)
    names = [team_name(i) for i in team_ids(9)]
    assert len(set(names)) == 9
    assert names[:3] == list(TEAM_NAMES.values())
    assert day_of(4, 1)["body"][0] != day_of(1, 1)["body"][0]


def test_volume_follows_logs_per_day_and_what_cannot_be_is_refused():
    assert day_of(3, 1, logs_per_day=3000).num_rows == pytest.approx(3000, rel=0.2)
    with pytest.raises(ValueError, match="logs_per_day is 0"):
        day_of(1, logs_per_day=0)
    with pytest.raises(ValueError, match="no demo team 0"):
        day_of(0)
    with pytest.raises(ValueError, match="0 teams"):
        incidents(UNTIL, 3, 0)
