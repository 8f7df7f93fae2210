"""Small adapters for structlog, loguru and OpenTelemetry. None of them is imported before it is used.

OpenTelemetry's ``LoggingHandler`` is a handler of `logging` and needs none: ``handler.addFilter(SamplingFilter(…))``.
The stamp and the trace come with the record. `otel_processor` is for logs that reach OpenTelemetry by other ways.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from .decision import severity_name
from .logging_filter import STAMP, current_trace, level_severity
from .records import severity as record_severity
from .sampler import Sampler, TraceId, Verdict
from .worker import LOGGER

_MARK = "_lipservice"
"""Of a record of loguru: whether it goes on and the stamp, by each sampler that decided over it."""


def structlog_processor(
    sampler: Sampler, text: Callable[[Mapping[str, Any]], str] = lambda event: str(event.get("event", ""))
) -> Callable[[Any, str, MutableMapping[str, Any]], MutableMapping[str, Any]]:
    """A processor that raises ``structlog.DropEvent`` for what is not kept and stamps the rest.

    It stands after the processors that add to the event and before the one that renders it. What carries a stamp
    already goes on as it is. ``text`` makes of the event what will be stored: the event's own message, or all of it, as
    a renderer of JSON does.
    """
    from structlog import DropEvent

    def process(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if STAMP in event:
            return event
        try:
            verdict = _structlog(sampler, text, method, event)
        except Exception as e:
            verdict = sampler.failed(e)
        if not verdict.keep:
            raise DropEvent
        if verdict.sample_rate is not None:
            event[STAMP] = verdict.sample_rate
        return event

    return process


def _structlog(
    sampler: Sampler, text: Callable[[Mapping[str, Any]], str], method: str, event: Mapping[str, Any]
) -> Verdict:
    severity = "error" if method == "exception" else severity_name(str(event.get("level") or method))
    exception = bool(event.get("exc_info")) or bool(event.get("exception"))
    return sampler.choose(text(event), severity, exception, _event_trace, event)


def _event_trace(event: Mapping[str, Any]) -> TraceId:
    return event.get("trace_id") or current_trace()


def loguru_filter(sampler: Sampler) -> Callable[[Any], bool]:
    """The ``filter`` of a sink of loguru; the stamp goes to ``record["extra"]``.

    Sinks share a record. Each filter puts its sampler's stamp in the place of another's, so that a sink without one
    sees the stamp of the last filter before it; let it be added before those with one.
    """

    def keeps(record: Any) -> bool:
        if STAMP in record["extra"] and _MARK not in record:  # it came with one
            return True
        if (record["name"] or "").partition(".")[0] == LOGGER.name:  # logging's logs may be handed on to loguru
            return True
        decided = record.setdefault(_MARK, {})
        if id(sampler) not in decided:
            try:
                verdict = _loguru(sampler, record)
            except Exception as e:
                verdict = sampler.failed(e)
            decided[id(sampler)] = verdict.keep, verdict.sample_rate if verdict.keep else None
        keep, stamp = decided[id(sampler)]
        if stamp is not None:
            record["extra"][STAMP] = stamp
        else:
            record["extra"].pop(STAMP, None)
        return bool(keep)

    return keeps


def _loguru(sampler: Sampler, record: Any) -> Verdict:
    level = record["level"]
    severity = level_severity(level.no, level.name)
    return sampler.choose(record["message"], severity, record["exception"] is not None, _event_trace, record["extra"])


def otel_processor(sampler: Sampler, following: Any) -> Any:
    """A log record processor of OpenTelemetry's SDK, around the one that exports.

    ``logger_provider.add_log_record_processor(otel_processor(sampler, BatchLogRecordProcessor(exporter)))``. What is
    not kept does not reach ``following``; a body that is no text is kept.
    """
    from opentelemetry.sdk._logs import LogRecordProcessor

    class Sampling(LogRecordProcessor):
        """Passes on what the policy keeps."""

        def on_emit(self, log_record: Any) -> None:
            """Decide over a record, and pass it on."""
            try:
                keep = _otel(sampler, log_record.log_record)
            except Exception as e:
                keep = sampler.failed(e).keep
            if keep:
                following.on_emit(log_record)

        def shutdown(self) -> None:
            """End what follows; the sampler ends by itself."""
            following.shutdown()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            """Flush what follows."""
            return bool(following.force_flush(timeout_millis))

    return Sampling()


def _otel(sampler: Sampler, record: Any) -> bool:
    if not isinstance(record.body, str) or STAMP in (record.attributes or {}):
        return True
    number = record.severity_number.value if record.severity_number is not None else 0
    attributes = record.attributes if record.attributes is not None else {}
    verdict = sampler.choose(
        record.body,
        record_severity(record.severity_text or "", number),
        "exception.type" in attributes,
        _otel_trace,
        record,
    )
    if verdict.keep and verdict.sample_rate is not None:
        record.attributes = {**attributes, STAMP: verdict.sample_rate}
    return verdict.keep


def _otel_trace(record: Any) -> TraceId:
    trace: TraceId = record.trace_id
    return trace
