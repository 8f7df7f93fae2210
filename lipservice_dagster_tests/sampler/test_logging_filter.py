"""The filter on real handlers of `logging`: what is kept, stamped, and never raised."""

from __future__ import annotations

import copy
import logging
import logging.config
import logging.handlers
import queue
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lipservice_dagster_tests.sampler.api_stub import SCOPE, document
from lipservice_sampler import Sampler, SamplingFilter, logging_filter
from lipservice_sampler.logging_filter import STAMP, level_severity, record_trace


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(copy.copy(record))  # as it is written


class Replacing(Kept):
    """Takes another record from a filter, as handlers do from Python 3.12 on."""

    def handle(self, record: logging.LogRecord) -> bool:
        for one in self.filters:
            assert isinstance(one, SamplingFilter)
            said = one.filter(record)
            if not said:
                return False
            record = said if isinstance(said, logging.LogRecord) else record
        self.emit(record)
        return True


def messages(handler: Kept) -> list[str]:
    return [r.getMessage() for r in handler.records]


def rebuilt(handler: Kept) -> float:
    return sum(1 / r.__dict__.get(STAMP, 1.0) for r in handler.records)


def make(served: dict[str, Any] | None = None, **more: Any) -> Sampler:
    return Sampler(**SCOPE, policy=served or document(), url="", **more)


def seen(sampler: Sampler) -> int:
    return sum(tally[0] for tally in sampler._drain()[0].values())


@pytest.fixture
def attach() -> Iterator[Callable[..., tuple[logging.Logger, Kept]]]:
    logger = logging.getLogger("test.sampled.application")
    logger.setLevel(1)
    logger.propagate = False

    def add(*filters: SamplingFilter, kind: type[Kept] = Kept) -> tuple[logging.Logger, Kept]:
        handler = kind()
        for one in filters:
            handler.addFilter(one)
        logger.addHandler(handler)
        return logger, handler

    yield add
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)


def test_lazy_arguments_are_formatted_and_what_is_kept_carries_its_rate(attach):
    logger, kept = attach(SamplingFilter(make(seed=1)))
    for i in range(1000):
        logger.info("order %d placed", i)
    assert 60 < len(kept.records) < 140
    assert {r.__dict__[STAMP] for r in kept.records} == {0.1}
    rebuilt = sum(1 / r.__dict__[STAMP] for r in kept.records)
    assert 600 < rebuilt < 1400


def test_errors_and_exceptions_are_kept(attach):
    logger, kept = attach(SamplingFilter(make()))
    for i in range(50):
        logger.error("order %d placed", i)
        logger.log(60, "order %d placed", i)
        try:
            raise KeyError(i)
        except KeyError:
            logger.info("order %d placed", i, exc_info=True)
            logger.debug("order %d placed", i, exc_info=KeyError(i))
    assert len(kept.records) == 200
    logger.info("order 7 placed", exc_info=True)  # there is none
    assert len(kept.records) <= 201
    assert len([r for r in kept.records if r.__dict__[STAMP] == 1.0]) == 200


def test_an_exception_written_out_by_a_queues_handler_still_counts(attach):
    record = logging.LogRecord("x", 20, "", 1, "order 7 placed", (), None)
    record.exc_text = "Traceback …"
    assert all(SamplingFilter(make()).filter(logging.makeLogRecord(dict(record.__dict__))) for _ in range(50))


@pytest.mark.parametrize("mode", ["live", "shadow"])
def test_a_record_is_decided_over_once_however_many_handlers_have_the_filter(attach, mode):
    sampler = make(document(mode=mode))
    one = SamplingFilter(sampler)
    logger, first = attach(one)
    _, second = attach(one, SamplingFilter(sampler))
    for i in range(500):
        logger.info("order %d placed", i)
    assert messages(first) == messages(second)
    assert [r.__dict__.get(STAMP) for r in first.records] == [r.__dict__.get(STAMP) for r in second.records]
    assert (len(first.records) == 500) == (mode == "shadow")
    assert seen(sampler) == 500


@pytest.mark.parametrize("kind", [Kept, Replacing])
def test_each_handler_sees_the_stamp_of_its_own_sampler(attach, monkeypatch, kind):
    monkeypatch.setattr(logging_filter, "_REPLACES", sys.version_info >= (3, 12) or kind is Replacing)
    one, other, shadow = make(seed=1), make(seed=2), make(document(mode="shadow"))
    logger, before = attach(kind=kind)
    _, first = attach(SamplingFilter(one), kind=kind)
    _, second = attach(SamplingFilter(other), kind=kind)
    _, third = attach(SamplingFilter(shadow), kind=kind)
    _, again = attach(SamplingFilter(one), kind=kind)
    for i in range(3000):
        logger.info("order %d placed", i)
    assert (seen(one), seen(other), seen(shadow)) == (3000, 3000, 3000)
    for handler in (first, second):
        assert 200 < len(handler.records) < 400
        assert {r.__dict__[STAMP] for r in handler.records} == {0.1}
        assert 2000 < rebuilt(handler) < 4000
    assert len(set(messages(first)) & set(messages(second))) < 100
    assert messages(again) == messages(first)
    for handler in (before, third):
        assert len(handler.records) == 3000
        assert not any(STAMP in r.__dict__ for r in handler.records)


def test_from_python_3_12_on_a_handler_without_a_filter_sees_no_stamp_and_a_second_sampler_honours_the_first(
    attach, monkeypatch
):
    monkeypatch.setattr(logging_filter, "_REPLACES", True)
    below = make(seed=2)
    logger, kept = attach(SamplingFilter(make(seed=1)), SamplingFilter(below), kind=Replacing)
    _, plain = attach(kind=Replacing)
    for i in range(1000):
        logger.info("order %d placed", i)
    assert 60 < len(kept.records) < 140
    assert seen(below) == 0
    assert len(plain.records) == 1000
    assert not any(STAMP in r.__dict__ for r in plain.records)


def test_logs_written_while_another_is_on_its_way_do_not_have_it_decided_over_again(attach):
    class Talking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("order"):
                logger.info("cart 9 priced in 12 ms")

    sampler = make(seed=1)
    logger, first = attach(SamplingFilter(sampler))
    logger.addHandler(Talking())
    _, second = attach(SamplingFilter(sampler))
    for i in range(300):
        logger.info("order %d placed", i)
    assert seen(sampler) == 600
    assert sorted(messages(first)) == sorted(messages(second))


def test_shadow_stamps_nothing(attach):
    logger, kept = attach(SamplingFilter(make(document(mode="shadow"))))
    logger.info("order 7 placed")
    assert STAMP not in kept.records[0].__dict__


def test_a_record_that_is_stamped_already_is_not_sampled_again(attach):
    logger, kept = attach(SamplingFilter(make()))
    for _ in range(50):
        logger.info("order 7 placed", extra={STAMP: 0.5})
    assert len(kept.records) == 50


@pytest.mark.parametrize("name", ["otelTraceID", "trace_id", "dd.trace_id"])
def test_records_of_a_trace_share_their_fate(attach, name):
    logger, kept = attach(SamplingFilter(make()))
    for trace in range(1, 101):
        for _ in range(3):
            logger.info("cart 9 priced in 12 ms", extra={name: f"{trace:032x}"})
    traces = [r.__dict__[name] for r in kept.records]
    assert 20 < len(set(traces)) < 80
    assert all(traces.count(trace) == 3 for trace in traces)


def test_a_trace_of_zeros_does_not_hide_another():
    attributes = {"otelTraceID": "0", "trace_id": "ab12"}
    assert record_trace(logging.makeLogRecord(attributes)) == "ab12"
    assert record_trace(logging.makeLogRecord({"otelTraceID": "0"})) != "0"


@pytest.mark.parametrize(("message", "arguments"), [("%d", ("x",)), ("%s %s", (1,)), (object(), ()), (None, ())])
def test_what_cannot_be_formatted_is_kept_and_raises_nothing(attach, message, arguments):
    one = SamplingFilter(make())
    record = logging.LogRecord("x", 20, "", 1, message, arguments, None)
    assert one.filter(record)


def test_an_argument_or_trace_that_raises_is_kept_and_told_once(caplog):
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError("bad")

    def trace(record: logging.LogRecord) -> None:
        raise RuntimeError("no trace")

    one = SamplingFilter(make(), trace=trace)
    for _ in range(3):
        assert one.filter(logging.LogRecord("x", 20, "", 1, "%s", (Bad(),), None))
        assert one.filter(logging.LogRecord("x", 20, "", 1, "order 7 placed", (), None))
    assert len([r for r in caplog.records if "could not be decided over" in r.getMessage()]) == 1


def test_the_samplers_own_warnings_are_never_sampled():
    one = SamplingFilter(make())
    record = logging.LogRecord("lipservice_sampler", 20, "", 1, "order 7 placed", (), None)
    assert all(one.filter(record) for _ in range(50))
    assert seen(one.sampler) == 0


def test_the_text_may_be_what_the_handler_writes(attach):
    served = document()
    served["policy"] = {
        **served["policy"],
        "pattern_rates": [{"signature": "c" * 16, "template": '{"m":"order <*> placed"}', "rate": 0.1}],
    }
    formatter = logging.Formatter('{"m":"%(message)s"}')
    logger, kept = attach(SamplingFilter(make(served), text=formatter.format))
    logger.info("order %d placed", 7)
    for _ in range(200):
        logger.info("order %d placed", 7)
    assert len(kept.records) < 100


def test_dict_config_makes_it_and_a_queue_carries_the_stamp():
    records: queue.Queue[logging.LogRecord] = queue.Queue()
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {
                "sampled": {"()": "lipservice_sampler.SamplingFilter", **SCOPE, "url": "", "policy": document()}
            },
            "handlers": {
                "kept": {
                    "()": "logging.handlers.QueueHandler",
                    "queue": (records := queue.Queue()),
                    "filters": ["sampled"],
                }
            },
            "loggers": {"test.sampled.config": {"handlers": ["kept"], "level": "INFO", "propagate": False}},
        }
    )
    for _ in range(300):
        logging.getLogger("test.sampled.config").info("cart %d priced in %d ms", 9, 12)
    assert 100 < records.qsize() < 200
    assert records.get().__dict__[STAMP] == 0.5


def test_a_sampler_and_arguments_of_one_are_refused():
    with pytest.raises(TypeError, match="either"):
        SamplingFilter(make(), service="shop")


@pytest.mark.parametrize(
    ("number", "name", "severity"),
    [
        (5, "TRACE", "trace"),
        (5, "Level 5", "trace"),
        (10, "DEBUG", "debug"),
        (20, "INFO", "info"),
        (25, "SUCCESS", "info"),
        (30, "WARNING", "warn"),
        (40, "ERROR", "error"),
        (40, "Oops", "error"),
        (45, "NOTICE", "error"),
        (35, "ALERT", "fatal"),
        (50, "CRITICAL", "fatal"),
        (0, "NOTSET", "info"),
    ],
)
def test_levels_are_read_by_name_and_number_and_are_errors_where_either_says_so(number, name, severity):
    assert level_severity(number, name) == severity
