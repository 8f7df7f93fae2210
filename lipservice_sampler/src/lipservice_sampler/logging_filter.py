"""`SamplingFilter` for `logging`: put it on the handler that ships logs; others go on seeing everything."""

from __future__ import annotations

import copy
import logging
import sys
import weakref
from collections.abc import Callable
from typing import Any

from .decision import SEVERITY_NAMES
from .sampler import Sampler, TraceId, Verdict, trace_key
from .worker import LOGGER

STAMP = "lipservice.sample_rate"
"""Attribute of a kept record: the probability it was kept with."""

_ORDER = ("trace", "debug", "info", "warn", "error", "fatal")
_TRACE_ATTRIBUTES = ("otelTraceID", "trace_id", "dd.trace_id")
_OURS = LOGGER.name
_REPLACES: bool = sys.version_info >= (3, 12)
"""Whether a filter may put another record in the place of the one it was given."""


def level_severity(number: int, name: str) -> str:
    """The severity of a level by its name where loggers know it, else by its number; an error where either says so."""
    steps = (10, 20, 30, 40, 50)
    by_number = "info" if number == logging.NOTSET else _ORDER[sum(number >= step for step in steps)]
    by_name = SEVERITY_NAMES.get(name.lower(), by_number)
    return by_number if by_number in ("error", "fatal") and by_name not in ("error", "fatal") else by_name


def current_trace() -> TraceId:
    """The trace of OpenTelemetry's current span, where the application uses OpenTelemetry."""
    module = sys.modules.get("opentelemetry.trace")
    return module.get_current_span().get_span_context().trace_id if module is not None else None


def record_trace(record: logging.LogRecord) -> TraceId:
    """The trace of a record: what OpenTelemetry, Datadog or ``extra`` put on it, else `current_trace`."""
    attributes = record.__dict__
    for name in _TRACE_ATTRIBUTES:
        found: TraceId = attributes.get(name)
        if found and trace_key(found) is not None:  # OpenTelemetry writes "0" outside of spans
            return found
    return current_trace()


def has_exception(record: logging.LogRecord) -> bool:
    """Whether a record carries an exception, also one that a queue's handler has written out."""
    if record.exc_info:
        return not isinstance(record.exc_info, tuple) or record.exc_info[0] is not None
    return bool(record.exc_text)


class SamplingFilter(logging.Filter):
    """Lets through what the policy keeps, and stamps it with ``lipservice.sample_rate``.

    Args:
        sampler: or else the arguments of one, so that ``dictConfig`` can make it.
        text: the message as it will be stored: `LogRecord.getMessage` unless the handler writes something else, such as
            JSON (then ``handler.format``).
        trace: the id of a record's trace.

    A record is decided over once by each sampler, however many handlers have the filter, and not at all where it came
    with a stamp, as of an application's own rate. What goes wrong here keeps the record.

    The handlers of a logger share its records, so that each filter's stamp must reach its own handler alone. From
    Python 3.12 on, the filter hands a stamped copy on. Before, the record itself carries the stamp, and the next filter
    of another sampler takes it off again: a handler without a filter sees the stamp of the last filter before it (let
    it stand before those with one), and of two samplers in a row, on a logger and on its handler, the second decides
    anew.
    """

    def __init__(
        self,
        sampler: Sampler | None = None,
        *,
        text: Callable[[logging.LogRecord], str] = logging.LogRecord.getMessage,
        trace: Callable[[logging.LogRecord], TraceId] = record_trace,
        **arguments: Any,
    ) -> None:
        super().__init__()
        if sampler is not None and arguments:
            raise TypeError(f"a sampler and arguments of one ({', '.join(arguments)}): pass either")
        self.sampler = Sampler(**arguments) if sampler is None else sampler
        self._text = text
        self._trace = trace
        self._levels: dict[tuple[int, str], str] = {}
        self._decided = _decided.setdefault(self.sampler, weakref.WeakKeyDictionary())

    def filter(self, record: logging.LogRecord) -> Any:
        """Whether the record goes on: a bool, or the stamped copy that goes on in its place."""
        try:
            return self._pass(record)
        except Exception as e:
            return self.sampler.failed(e).keep

    def _pass(self, record: logging.LogRecord) -> bool | logging.LogRecord:
        attributes = record.__dict__
        if record.name == _OURS or (STAMP in attributes and record not in _stamped):
            return True
        verdict = self._decided.get(record)
        if verdict is None:
            try:
                verdict = self._decide(record)
            except Exception as e:
                verdict = self.sampler.failed(e)
            self._decided[record] = verdict
        if not verdict.keep or verdict.sample_rate is None:
            if attributes.pop(STAMP, None) is not None:
                _stamped.discard(record)
            return verdict.keep
        if _REPLACES:
            stamped = copy.copy(record)
            stamped.__dict__[STAMP] = verdict.sample_rate
            return stamped
        attributes[STAMP] = verdict.sample_rate
        _stamped.add(record)
        return True

    def _decide(self, record: logging.LogRecord) -> Verdict:
        level = (record.levelno, record.levelname)
        severity = self._levels.get(level)
        if severity is None:
            severity = self._levels[level] = level_severity(*level)
        exception = (record.exc_info is not None or record.exc_text is not None) and has_exception(record)
        return self.sampler.choose(self._text(record), severity, exception, self._trace, record)


_decided: weakref.WeakKeyDictionary[Sampler, weakref.WeakKeyDictionary[logging.LogRecord, Verdict]]
_decided = weakref.WeakKeyDictionary()
"""What each sampler decided over the records that are still on their way."""

_stamped: weakref.WeakSet[logging.LogRecord] = weakref.WeakSet()
"""Records that carry the stamp of a filter, and came without one."""
