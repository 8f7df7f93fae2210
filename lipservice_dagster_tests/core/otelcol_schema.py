"""What the OpenTelemetry Collector (contrib) documents of the processors that are exported to, in our words.

Keys, kinds and values of the transform and the probabilistic sampler processor, the functions of OTTL that are used
with the number of their arguments, and how the sampler draws in its mode hash_seed.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

STEPS = 2**14
"""In the mode hash_seed a record's randomness is one of so many buckets."""


class _Keys(BaseModel):
    """A key that is not documented is an error, and so is a value of another kind."""

    model_config = ConfigDict(extra="forbid", strict=True)


ErrorMode = Literal["ignore", "silent", "propagate"]


class Statements(_Keys):
    """Statements that run where one of the conditions holds; ``log`` sees the record, its scope and its resource."""

    context: Literal["resource", "scope", "log"]
    statements: Annotated[list[str], Field(min_length=1)]
    conditions: list[str] = []
    error_mode: ErrorMode = "ignore"


class Transform(_Keys):
    """The transform processor; of its signals, logs."""

    log_statements: list[Statements]
    error_mode: ErrorMode = "propagate"


class ProbabilisticSampler(_Keys):
    """The probabilistic sampler, for logs.

    ``attribute_source`` traceID: drawn by the trace's id, and where there is none by the attribute ``from_attribute``;
    record: by the attribute alone. ``sampling_priority`` names an attribute with a percentage of the record's own, a
    double, which raises what is kept and never lowers it. Without randomness a record is dropped if ``fail_closed``.
    """

    sampling_percentage: Annotated[float, Field(ge=0)]
    mode: Literal["hash_seed", "proportional", "equalizing"] = "hash_seed"
    hash_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    fail_closed: bool = True
    sampling_precision: Annotated[int, Field(ge=1, le=14)] = 4
    attribute_source: Literal["traceID", "record"] = "traceID"
    from_attribute: str = ""
    sampling_priority: str = ""

    def kept(self, priority: float) -> float:
        """The share of records of this priority (in percent) that is kept, in the mode hash_seed.

        The percentage is cut to whole buckets. With none of them the processor draws no record: it drops those without
        a priority and keeps all those with one.
        """
        assert self.mode == "hash_seed"
        buckets = int(min(self.sampling_percentage, 100.0) * STEPS / 100)
        if buckets == 0:
            return float(priority > 0)
        return max(buckets / STEPS, min(priority / 100, 1.0))


class Pipeline(_Keys):
    """A pipeline's processors, in their order."""

    processors: list[str]


class Pipelines(_Keys):
    """Those of logs."""

    logs: Pipeline


class Service(_Keys):
    """What is switched on."""

    pipelines: Pipelines


class Fragment(_Keys):
    """A part of a configuration; processors are named ``kind/name``."""

    processors: dict[str, dict[str, Any]]
    service: Service


PROCESSORS: dict[str, type[_Keys]] = {"transform": Transform, "probabilistic_sampler": ProbabilisticSampler}

EDITORS = {"set": (2, 2), "replace_pattern": (3, 5), "delete_key": (2, 2)}
"""Functions that begin a statement, each statement has one: arguments at least and at most."""

CONVERTERS = {
    "IsMatch": (2, 2),
    "IsString": (1, 1),
    "Concat": (2, 2),
    "UUID": (0, 0),
    "Now": (0, 0),
    "Time": (2, 4),
    "Int": (1, 1),
    "Double": (1, 1),
}
"""Functions that give a value."""

ENUMS = {"SEVERITY_NUMBER_ERROR"}
PATHS = {"log.body", "log.severity_number", "log.severity_text", "log.attributes", "resource.attributes"}
