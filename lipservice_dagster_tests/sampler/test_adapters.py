"""The adapters with the real libraries: structlog, loguru, OpenTelemetry."""

from __future__ import annotations

import json
import logging
import warnings
from typing import Any

import pytest

from lipservice_dagster_tests.sampler.api_stub import SCOPE, document
from lipservice_sampler import Sampler, SamplingFilter
from lipservice_sampler.adapters import loguru_filter, otel_processor, structlog_processor
from lipservice_sampler.logging_filter import STAMP


def make(mode: str = "live", **more: Any) -> Sampler:
    return Sampler(**SCOPE, policy=document(mode=mode, **more), url="", seed=1)


def seen(sampler: Sampler) -> int:
    return sum(tally[0] for tally in sampler._drain()[0].values())


@pytest.fixture
def lines() -> list[dict[str, Any]]:
    return []


def structlogger(sampler: Sampler, lines: list[dict[str, Any]], **more: Any) -> Any:
    import structlog

    class Out:
        def msg(self, text: str) -> None:
            lines.append(json.loads(text))

        log = debug = info = warning = error = critical = msg

    return structlog.wrap_logger(
        Out(),
        processors=[
            structlog.processors.add_log_level,
            structlog_processor(sampler, **more),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.BoundLogger,
    )


def test_structlog_drops_and_stamps(lines):
    log = structlogger(make(), lines)
    for i in range(300):
        log.info(f"order {i} placed", user=i)
    assert 10 < len(lines) < 60
    assert {line[STAMP] for line in lines} == {0.1}
    del lines[:]
    for i in range(20):
        log.error(f"order {i} placed")
        log.info(f"order {i} placed", exc_info=ValueError(i))
    assert len(lines) == 40


def test_structlog_shadow_leaves_the_event_as_it_is(lines):
    log = structlogger(make("shadow"), lines)
    for i in range(20):
        log.info(f"order {i} placed")
    assert lines == [{"event": f"order {i} placed", "level": "info"} for i in range(20)]


def test_a_structlog_event_that_is_stamped_already_is_not_sampled_again(lines):
    sampler = make()
    log = structlogger(sampler, lines).bind(**{STAMP: 0.5})
    for i in range(50):
        log.info(f"order {i} placed")
    assert [line[STAMP] for line in lines] == [0.5] * 50
    assert seen(sampler) == 0


def test_structlog_keeps_what_cannot_be_decided(lines):
    def text(event: Any) -> str:
        raise RuntimeError("no text")

    log = structlogger(make(), lines, text=text)
    for i in range(20):
        log.info(f"order {i} placed")
    assert len(lines) == 20


def _sink(logger: Any, records: list[Any], sampler: Sampler) -> int:
    def keep(message: Any) -> None:
        records.append({**message.record, "extra": dict(message.record["extra"])})  # as it is written

    return int(logger.add(keep, level=1, filter=loguru_filter(sampler), catch=False))


@pytest.mark.parametrize("mode", ["live", "shadow"])
def test_loguru_drops_and_stamps_and_decides_once_for_all_sinks(mode):
    from loguru import logger

    sampler = make(mode)
    kept: tuple[list[Any], list[Any]] = ([], [])
    sinks = [_sink(logger, records, sampler) for records in kept]
    try:
        for i in range(300):
            logger.info("order {} placed", i)
        logger.bind(trace_id="ab").exception("order 7 placed")
        logger.log("SUCCESS", "hello")
    finally:
        for sink in sinks:
            logger.remove(sink)
    assert [r["message"] for r in kept[0]] == [r["message"] for r in kept[1]]
    assert seen(sampler) == 302
    if mode == "shadow":
        assert len(kept[0]) == 302
        assert not any(STAMP in r["extra"] for r in kept[0])
    else:
        assert 12 < len(kept[0]) < 62
        assert [r["extra"][STAMP] for r in kept[0]][-2:] == [1.0, 1.0]


def test_logurus_sinks_with_samplers_of_their_own_each_decide_and_stamp():
    from loguru import logger

    samplers = [make(), Sampler(**SCOPE, policy=document(), url="", seed=2), make("shadow")]
    kept: list[list[Any]] = [[] for _ in samplers]
    sinks = [_sink(logger, records, sampler) for records, sampler in zip(kept, samplers, strict=True)]
    try:
        for i in range(2000):
            logger.info("order {} placed", i)
    finally:
        for sink in sinks:
            logger.remove(sink)
    assert [seen(sampler) for sampler in samplers] == [2000] * 3
    for records in kept[:2]:
        assert 140 < len(records) < 260
        assert {r["extra"][STAMP] for r in records} == {0.1}
    assert len({r["message"] for r in kept[0]} & {r["message"] for r in kept[1]}) < 60
    assert len(kept[2]) == 2000
    assert not any(STAMP in r["extra"] for r in kept[2])


def test_a_loguru_record_that_came_with_a_stamp_is_not_sampled_again():
    from loguru import logger

    samplers = make(), make()
    kept: tuple[list[Any], list[Any]] = ([], [])
    sinks = [_sink(logger, records, sampler) for records, sampler in zip(kept, samplers, strict=True)]
    try:
        for i in range(50):
            logger.bind(**{STAMP: 0.5}).info("order {} placed", i)
    finally:
        for sink in sinks:
            logger.remove(sink)
    assert [[r["extra"][STAMP] for r in records] for records in kept] == [[0.5] * 50] * 2
    assert [seen(sampler) for sampler in samplers] == [0, 0]


def test_structlog_events_of_a_trace_share_their_fate(lines):
    log = structlogger(make(), lines)
    for trace in range(1, 101):
        for _ in range(3):
            log.info("cart 9 priced in 12 ms", trace_id=f"{trace:032x}")
    traces = [line["trace_id"] for line in lines]
    assert 20 < len(set(traces)) < 80
    assert all(traces.count(trace) == 3 for trace in traces)


def test_the_samplers_own_warnings_handed_on_to_loguru_are_never_sampled():
    from loguru import logger

    kept: list[Any] = []
    sampler = make()
    sink = _sink(logger, kept, sampler)

    def of(name: str) -> Any:
        def rename(record: Any) -> None:
            record["name"] = name

        return logger.patch(rename)

    own, other = of("lipservice_sampler.worker"), of("lipservice_samplers")
    try:
        for i in range(50):
            own.warning("order {} placed", i)
            other.info("order {} placed", i)
    finally:
        logger.remove(sink)
    assert [r["name"] for r in kept].count("lipservice_sampler.worker") == 50
    assert seen(sampler) == 50


def test_an_exception_on_a_loguru_record_is_an_error_at_any_level():
    from loguru import logger

    kept: list[Any] = []
    sink = _sink(logger, kept, make())
    try:
        for i in range(50):
            logger.opt(exception=ValueError(i)).info("order {} placed", i)
    finally:
        logger.remove(sink)
    assert [r["extra"][STAMP] for r in kept] == [1.0] * 50


@pytest.fixture
def exported() -> Any:
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter

    return InMemoryLogRecordExporter()


def bodies(exported: Any) -> list[Any]:
    return [log.log_record for log in exported.get_finished_logs()]


def test_opentelemetrys_logging_handler_takes_the_filter_and_the_span_gives_the_trace(exported):
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
    from opentelemetry.sdk.trace import TracerProvider

    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exported))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it moved to another package, and still does the same
        handler = LoggingHandler(logger_provider=provider)
    handler.addFilter(SamplingFilter(make()))
    logger = logging.getLogger("test.sampled.otel")
    logger.propagate = False
    logger.setLevel("INFO")
    logger.addHandler(handler)
    tracer = TracerProvider().get_tracer("test")
    try:
        for _ in range(60):
            with tracer.start_as_current_span("request"):
                for _ in range(3):
                    logger.info("cart %d priced in %d ms", 9, 12)
    finally:
        logger.removeHandler(handler)
    kept = bodies(exported)
    traces = [r.trace_id for r in kept]
    assert 10 < len(set(traces)) < 50
    assert all(traces.count(trace) == 3 for trace in traces)
    assert {r.attributes[STAMP] for r in kept} == {0.5}


def test_opentelemetrys_own_logs_are_sampled_by_the_processor(exported):
    from opentelemetry._logs import SeverityNumber
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

    provider = LoggerProvider()
    provider.add_log_record_processor(otel_processor(make(), SimpleLogRecordProcessor(exported)))
    logger = provider.get_logger("test")
    for i in range(300):
        logger.emit(body=f"order {i} placed", severity_number=SeverityNumber.INFO)
    assert 10 < len(bodies(exported)) < 60
    assert {r.attributes[STAMP] for r in bodies(exported)} == {0.1}
    exported.clear()
    for i in range(20):
        logger.emit(body=f"order {i} placed", severity_number=SeverityNumber.ERROR2)
        logger.emit(body={"a": i}, severity_number=SeverityNumber.INFO)
        logger.emit(body=f"order {i} placed", attributes={STAMP: 0.5})
        logger.emit(body=f"order {i} placed", attributes={"exception.type": "ValueError"})
    assert len(bodies(exported)) == 80
    assert provider.force_flush()
    provider.shutdown()
