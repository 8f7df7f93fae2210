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

_MARK = "_lipservice_keep"


def structlog_processor(
    sampler: Sampler, text: Callable[[Mapping[str, Any]], str] = lambda event: str(event.get("event", ""))
) -> Callable[[Any, str, MutableMapping[str, Any]], MutableMapping[str, Any]]:
    """A processor that raises ``structlog.DropEvent`` for what is not kept and stamps the rest.

    It stands after the processors that add to the event and before the one that renders it. ``text`` makes of the event
    what will be stored: the event's own message, or all of it, as a renderer of JSON does.
    """
    from structlog import DropEvent

    def process(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
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
    """The ``filter`` of a sink of loguru; the stamp goes to ``record["extra"]``."""

    def keeps(record: Any) -> bool:
        try:
            if STAMP in record["extra"]:
                return True
            known = record.get(_MARK)
            if known is not None:
                return bool(known)
            level = record["level"]
            verdict = sampler.choose(
                record["message"],
                level_severity(level.no, level.name),
                record["exception"] is not None,
                _event_trace,
                record["extra"],
            )
            if verdict.keep and verdict.sample_rate is not None:
                record["extra"][STAMP] = verdict.sample_rate
            else:
                record[_MARK] = verdict.keep
            return verdict.keep
        except Exception as e:
            return sampler.failed(e).keep

    return keeps


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
