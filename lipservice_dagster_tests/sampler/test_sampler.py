"""Decisions of a sampler: those of the policy, unbiased, by trace, counted; whatever the clock does."""

from __future__ import annotations

import gc
import math
import random
import threading
import tracemalloc
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from lipservice_dagster_tests.sampler.api_stub import POLICY, SCOPE, A, document
from lipservice_sampler import Sampler
from lipservice_sampler.counts import REST
from lipservice_sampler.decision import decide, error_like
from lipservice_sampler.masks import mask
from lipservice_sampler.matching import Matcher
from lipservice_sampler.sampler import trace_key
from lipservice_sampler.served import ServedError
from lipservice_sampler.words import Words

NOON = datetime(2026, 9, 10, 12, tzinfo=UTC).timestamp()
SEVERITIES = ["trace", "debug", "info", "warn", "error", "fatal", "WARNING", "nonsense"]
MESSAGES = ["order 17 placed", "cart 9 priced in 12 ms", "hello", "Job 10 failed", "0 errors", "failed=0", "failed=3"]


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def make(served: Any = None, **more: Any) -> Sampler:
    return Sampler(**SCOPE, policy=document() if served is None else served, url="", **more)


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def tallies(sampler: Sampler) -> dict[Any, list[int]]:
    """By signature, message and severity."""
    return {key: tally for (_, _, key), tally in sampler._drain()[0].items()}


overrides = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["never_sample", "cap", "lift_error_like"]),
            "signature": st.sampled_from([None, A]),
            "template": st.sampled_from([None, "hello"]),
            "rate": st.just(0.3),
            "until": st.sampled_from([None, iso(NOON - 5), iso(NOON + 5), iso(NOON + 15)]),
        }
    ),
    max_size=3,
)
boosts = st.lists(
    st.fixed_dictionaries(
        {
            "signature": st.sampled_from([None, A]),
            "factor": st.sampled_from([2.0, 50.0]),
            "until": st.sampled_from([iso(NOON + 5), iso(NOON + 15)]),
        }
    ),
    max_size=2,
)
moments = st.sampled_from([NOON - 10, NOON, NOON + 5, NOON + 10, NOON + 20])


@given(
    overrides,
    boosts,
    st.lists(st.tuples(st.sampled_from(MESSAGES), st.sampled_from(SEVERITIES), moments), max_size=30),
)
def test_every_decision_is_that_of_the_decision_function_at_that_moment(said, lifts, logs):
    overlay = {"overrides": said, "boosts": lifts}
    clock = Clock()
    sampler = make(document(overlay=overlay), clock=clock)
    by_template = {entry["template"]: entry["signature"] for entry in POLICY["pattern_rates"]}
    matcher = Matcher(by_template)
    seen: Counter[Any] = Counter()
    hour = None
    for message, severity, now in logs:
        clock.now = now
        if hour != now // 3600:
            hour, seen = now // 3600, Counter()
        masked = mask(message)
        template = matcher.match(masked)
        signature = None if template is None else by_template[template]

        def asked(
            n: int, severity=severity, signature=signature, message=message, masked=masked, now=now
        ) -> tuple[float, str]:
            at = datetime.fromtimestamp(now, UTC)
            like = error_like(message)
            return decide(POLICY, severity, signature, like, unknown_seen=n, overlay=overlay, masked=masked, at=at)

        expected = asked(seen[severity, masked])
        found = sampler.decide(message, severity)
        assert (found.rate, found.reason) == expected
        if asked(0) != asked(3):
            seen[severity, masked] += 1


def test_what_is_kept_agrees_with_the_rates_by_a_pooled_test():
    """Conservative: the variance is that of draws one by one, and even draws have less."""
    statistic, degrees = 0.0, 0
    for seed in range(20):
        sampler = make(seed=seed)
        for message, rate in (("order 17 placed", 0.1), ("cart 9 priced in 12 ms", 0.5)):
            kept = sum(sampler.decide(message).keep for _ in range(2000))
            statistic += (kept - 2000 * rate) ** 2 / (2000 * rate * (1 - rate))
            degrees += 1
    assert chi2.sf(statistic, degrees) > 0.01


def test_a_rate_just_below_one_drops_too():
    served = document({**POLICY, "pattern_rates": [{"signature": A, "template": "order <*> placed", "rate": 0.95}]})
    sampler = make(served, seed=1)
    assert 30 < sum(not sampler.decide(f"order {i} placed").keep for i in range(1000)) < 75
    traced = make(served)
    assert 30 < sum(not traced.decide("order 1 placed", trace_id=i).keep for i in range(1, 1001)) < 75


@given(st.lists(st.tuples(st.sampled_from(MESSAGES), st.sampled_from(["info", "debug"])), max_size=200))
def test_the_rebuilt_count_of_a_pattern_at_a_severity_is_off_by_less_than_one_draw(logs):
    sampler = make(document({**POLICY, "unknown": {"first_per_hour": 0}}))
    rates: dict[tuple[str, str], float] = {}
    kept: Counter[tuple[str, str]] = Counter()
    asked: Counter[tuple[str, str]] = Counter()
    for n, (message, severity) in enumerate(logs):
        if n % 40 == 20:
            sampler._drain()
        if n % 40 == 39:
            sampler.install(sampler._rules.prepared.served)
        verdict = sampler.decide(message, severity)
        if verdict.rate < 1:
            of = mask(message), severity
            rates[of] = verdict.rate
            kept[of] += verdict.keep
            asked[of] += 1
    for of, rate in rates.items():
        assert abs(kept[of] / rate - asked[of]) < 1 / rate + 1e-6


def test_messages_that_share_a_signature_are_drawn_together():
    policy = {**POLICY, "pattern_rates": [{"signature": A, "template": "user <*> came", "rate": 0.1}]}
    sampler = make(document(policy))
    names = "abcdefghij"
    assert sum(sampler.decide(f"user {names[n % 10]} came").keep for n in range(1000)) in (99, 100, 101)


def test_of_logs_of_which_some_carry_a_trace_the_rebuilt_count_strays_little():
    """Drawn one by one, the half that carries a trace alone would make them stray by a standard error of 13 or more."""
    strayed = []
    for seed in range(20):
        sampler = make(seed=seed)
        chance = random.Random(seed)
        kept = 0
        for _ in range(4000):
            trace = chance.getrandbits(128) if chance.random() < 0.5 else None
            kept += sampler.decide("order 17 placed", trace_id=trace).keep
        strayed.append(kept - 400)
    assert math.sqrt(sum(x * x for x in strayed) / 20) < 4
    assert abs(sum(strayed)) < 4 * 4 * math.sqrt(20)


def test_what_is_kept_by_trace_agrees_with_the_rates_too():
    sampler = make()
    statistic = 0.0
    for block in range(20):
        kept = sum(sampler.decide("order 17 placed", trace_id=(block << 64) + n + 1).keep for n in range(1000))
        statistic += (kept - 100) ** 2 / 90
    assert chi2.sf(statistic, 20) > 0.01


@given(st.integers(1, 2**128 - 1))
def test_of_two_logs_of_a_trace_the_one_with_the_higher_rate_is_kept_whenever_the_other_is(trace):
    sampler = make()
    low = sampler.decide("order 17 placed", trace_id=trace).keep
    high = sampler.decide("cart 9 priced in 12 ms", trace_id=f"{trace:032X}").keep
    assert high or not low


def test_a_trace_is_one_by_number_and_by_text_in_any_process():
    sampler = make()
    traces = [7 * n + 1 for n in range(300)]
    kept = [sampler.decide("cart 9 priced in 1 ms", trace_id=n).keep for n in traces]
    assert kept == [make(seed=9).decide("cart 1 priced in 2 ms", trace_id=f"{n:032x}").keep for n in traces]
    assert 100 < sum(kept) < 200


@pytest.mark.parametrize("other", [bytes.fromhex, uuid.UUID, lambda text: str(uuid.UUID(text)), str.upper, str.encode])
def test_a_trace_is_one_in_whatever_way_its_id_is_written(other):
    ids = [f"{(7 * n + 1) << 90:032x}" for n in range(100)]
    assert [trace_key(other(text)) for text in ids] == [trace_key(text) for text in ids]
    assert len({trace_key(text) for text in ids}) == 100


@pytest.mark.parametrize("none", [None, 0, "", "0", "0" * 32, b"\0" * 16])
def test_an_empty_trace_is_none(none):
    sampler = make(seed=1)
    assert 20 < sum(sampler.decide("cart 9 priced in 12 ms", trace_id=none).keep for _ in range(100)) < 80


def test_the_same_seed_keeps_the_same():
    def run(seed: int) -> list[bool]:
        sampler = make(seed=seed)
        return [sampler.decide("cart 9 priced in 12 ms").keep for _ in range(200)]

    assert run(1) == run(1) != run(2)


def test_errors_exceptions_and_what_reads_like_one_are_kept():
    sampler = make()
    for _ in range(200):
        assert sampler.decide("order 17 placed", "ERROR").keep
        assert sampler.decide("order 17 placed", exception=True).keep
        assert sampler.decide("order 17 failed").keep
    assert sampler.decide("order 17 placed", exception=True).reason == "error"
    # An exception makes the log an error for the decision; it is counted at its own severity.
    assert tallies(sampler)[A, None, "info"][:2] == [201, 201]


def test_what_reads_like_an_error_is_read_before_its_digits_are_masked():
    sampler = make()
    for _ in range(3):
        sampler.decide("12 passed, failed=0")
    assert sampler.decide("12 passed, failed=0").reason == "severity"
    assert sampler.decide("12 passed, failed=3").reason == "error_like"


def test_the_first_of_an_unknown_pattern_are_kept_in_each_hour_anew():
    clock = Clock()
    sampler = make(clock=clock)

    def reasons(n: int) -> list[str]:
        return [sampler.decide(f"took {i} s").reason for i in range(n)]

    assert reasons(5) == ["unknown"] * 3 + ["severity"] * 2
    assert sampler.decide("took 1 s", "warn").reason == "unknown"  # a severity by itself
    clock.now += 3599
    assert reasons(1) == ["severity"]
    clock.now += 1
    assert reasons(4) == ["unknown"] * 3 + ["severity"]
    clock.now -= 7200  # the clock was set back
    assert reasons(4) == ["unknown"] * 3 + ["severity"]


def test_a_boost_ends_between_two_decisions_and_counts_again_where_the_clock_goes_back():
    clock = Clock()
    boost = {"signature": A, "factor": 5.0, "until": iso(NOON + 1), "reason": "x"}
    sampler = make(document(overlay={"boosts": [boost]}), clock=clock)
    assert sampler.decide("order 17 placed")[1:3] == (0.5, "boost")
    clock.now = NOON + 0.999
    assert sampler.decide("order 17 placed").reason == "boost"
    clock.now = NOON + 1
    assert sampler.decide("order 17 placed")[1:3] == (0.1, "pattern")
    clock.now = NOON
    assert sampler.decide("order 17 placed").reason == "boost"


def test_shadow_drops_nothing_stamps_nothing_and_counts_what_it_would_have_dropped():
    sampler = make(document(mode="shadow"), seed=3)
    verdicts = [sampler.decide("order 17 placed") for _ in range(1000)]
    assert all(v.keep and v.sample_rate is None and v.rate == 0.1 for v in verdicts)
    would = sum(v.would_keep for v in verdicts)
    assert 60 < would < 140
    assert tallies(sampler) == {(A, None, "info"): [1000, would, 15_000, 15 * would]}


def test_without_a_policy_everything_is_kept_unstamped():
    for served in (document(None, mode="default", version="0"), document(mode="default")):
        verdicts = [make(served).decide("order 17 placed") for _ in range(50)]
        assert {v[:4] for v in verdicts} == {(True, 1.0, "global", None)}


def test_live_logs_are_stamped_with_the_rate_that_kept_them():
    sampler = make()
    assert sampler.decide("order 17 placed").sample_rate == 0.1
    assert sampler.decide("order 17 placed", "error").sample_rate == 1.0
    assert [sampler.decide("hello").sample_rate for _ in range(4)] == [1.0] * 3 + [0.2]


def test_counts_tell_logs_and_octets_by_pattern_severity_and_hour():
    clock = Clock()
    sampler = make(clock=clock)
    sampler.decide("order 17 placed", "error")
    sampler.decide("grüße 7")
    sampler.decide("x" * 20_000, "warn")
    clock.now += 3600
    sampler.decide("order 18 placed", "error")
    found = sampler._drain()[0]
    assert found == {
        (("v1", "live"), NOON, (A, None, "error")): [1, 1, 15, 15],
        (("v1", "live"), NOON, (None, "grüße <*>", "info")): [1, 1, 9, 9],
        (("v1", "live"), NOON, (None, "<*>", "warn")): [1, 1, 20_000, 20_000],
        (("v1", "live"), NOON + 3600, (A, None, "error")): [1, 1, 15, 15],
    }
    assert sampler._drain()[0] == {}


def test_counts_are_told_apart_by_the_policy_that_decided():
    sampler = make()
    sampler.decide("order 1 placed")
    sampler.install(make(document(version="v2", mode="shadow"))._rules.prepared.served)
    sampler.decide("order 1 placed")
    labels = {label for label, _, _ in sampler._drain()[0]}
    assert labels == {("v1", "live"), ("v2", "shadow")}


def test_threads_lose_no_count():
    sampler = make()

    def work() -> None:
        for i in range(2000):
            sampler.decide(f"order {i} placed")
            sampler.decide(f"took {i} s")

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = tallies(sampler)
    assert found[A, None, "info"][0] == found[None, "took <*> s", "info"][0] == 12_000
    assert found[None, "took <*> s", "info"][1] >= 3
    assert 1199 <= found[A, None, "info"][1] <= 1201  # no draw is lost either


def test_a_policy_that_comes_while_threads_decide_stays():
    clock = Clock()
    boost = [{"factor": 5.0, "until": iso(NOON + n), "reason": "x"} for n in range(1, 200)]
    old, new = document(overlay={"boosts": boost}), document(version="v2", overlay={"boosts": boost})
    sampler = make(old, clock=clock)
    served = make(new)._rules.prepared.served
    going = True

    def work() -> None:
        while going:
            sampler.decide("order 1 placed")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(150):
        clock.now = NOON + n
        if n == 75:
            sampler.install(served)
        sampler.decide("order 1 placed")
    going = False
    for thread in threads:
        thread.join()
    assert sampler.status()["version"] == "v2"


def test_memory_is_bounded_whatever_is_logged(monkeypatch):
    limits = ("counts.MOST_ROWS", "counts.MOST_UNKNOWN", "draws.MOST_DRAWS", "rules._REMEMBERED")
    for limit in (*limits, "rules._REMEMBERED_TEXTS"):
        monkeypatch.setattr(f"lipservice_sampler.{limit}", 200)
    sampler = make()
    sampler._words = Words(remember=200)
    letters = str.maketrans("0123456789", "ghijklmnop")

    def log(start: int, end: int) -> None:
        for n in range(start, end):
            sampler.decide(f"{str(n).translate(letters)} came by")

    log(0, 1000)
    tracemalloc.start()
    log(1000, 1500)
    gc.collect()
    first = tracemalloc.get_traced_memory()[0]
    log(1500, 5000)
    gc.collect()
    second = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert second - first < 1_000_000  # what is remembered comes and goes; without bounds it were 5 MB
    rows = tallies(sampler)
    assert sum(tally[0] for tally in rows.values()) == 5000
    assert rows[None, REST, "info"][0] == 4800


@pytest.mark.parametrize("message", ["\ud800 lone", "a\0b", "", " ", "%s %d", "\x1b[", "💥" * 9000, "0" * 100_000])
def test_any_text_is_decided(message):
    assert make().decide(message).reason in ("unknown", "severity")


@pytest.mark.parametrize("message", [None, 17, b"bytes", object()])
def test_what_is_no_text_is_kept_and_nothing_raises(message):
    sampler = make()
    assert sampler.decide(message).keep


@pytest.mark.parametrize(
    "wrong",
    [
        {"service": "other"},
        {"team_id": 2},
        {"mode": "on"},
        {"policy": None},
        {"policy": []},
        {"policy": {**POLICY, "global_rate": 0}},
        {"policy": {**POLICY, "global_rate": "1"}},
        {"policy": {**POLICY, "global_rate": float("nan")}},
        {"policy": {**POLICY, "severity_rates": {"info": 2}}},
        {"policy": {**POLICY, "severity_rates": []}},
        {"policy": {**POLICY, "pattern_rates": [{"signature": "a", "rate": 0.5}]}},
        {"policy": {**POLICY, "pattern_rates": ["a"]}},
        {"policy": {**POLICY, "unknown": {"first_per_hour": -1}}},
        {"policy": {**POLICY, "mask_version": 1}},
        {"policy": {**POLICY, "schema_version": 2}},
        {"overlay": {"overrides": [{"kind": "else"}]}},
        {"overlay": {"boosts": [{"factor": 2}, 3]}},
        {"overlay": {"boosts": [{"factor": 2, "until": "soon"}]}},
        {"overlay": [1]},
        {"refresh_seconds": "30"},
    ],
)
def test_a_document_that_is_not_valid_is_refused_whole(wrong):
    with pytest.raises(ServedError):
        make({**document(), **wrong})
