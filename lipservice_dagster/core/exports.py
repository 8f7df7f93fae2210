"""Policies for log collectors: complete fragments of configuration, with the weight stamped on what is kept.

What belongs here: the choice of the target and the head of comments. A fragment says the policy and the overlay in the
target's own language, in the order of `lipservice_sampler.decision`: overrides, errors and what reads like one, the
rate of the pattern, boosts and caps, each until its end. What a target cannot say is kept rather than dropped, and the
comments at its head name it. Text of logs stands in quoted literals only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lipservice_dagster.core import exports_fluentbit, exports_otelcol, exports_vector
from lipservice_dagster.core.exports_plan import Plan, comment, plan

_TARGETS: dict[str, tuple[Callable[[Plan], str], tuple[str, ...]]] = {
    "otelcol": (exports_otelcol.otelcol, exports_otelcol.NOT_COVERED),
    "vector": (exports_vector.vector, exports_vector.NOT_COVERED),
    "fluentbit": (exports_fluentbit.fluentbit, exports_fluentbit.NOT_COVERED),
}

FORMATS = tuple(_TARGETS)
"""What a policy can be exported to."""


class UnknownFormatError(ValueError):
    """There is no such format; the message names those there are."""


def export(policy: Mapping[str, Any], overlay: Mapping[str, Any] | None, format: str, *, mode: str = "live") -> str:  # noqa: A002
    """The fragment of configuration that keeps a service's logs as its policy says; YAML, equal for equal documents.

    Args:
        policy, overlay: the documents as parsed JSON; without an overlay nothing is said on top.
        format: one of `FORMATS`.
        mode: of the release; in ``shadow`` nothing is dropped, and the fragment keeps everything.

    Raises:
        UnknownFormatError: another format.
        PolicyError, OverlayError: a document is not valid.
    """
    if format not in _TARGETS:
        raise UnknownFormatError(f"{format!r} is no format: one of {', '.join(FORMATS)}")
    write, not_covered = _TARGETS[format]
    made = plan(policy, overlay, mode)
    head = [
        f"LipService: policy {comment(made.version)} of team {made.team_id}, service {comment(made.service)},"
        f" environment {comment(made.environment) or '(any)'}, {comment(mode)}.",
        "Made by `lipservice policy export`; make it again when the policy or what stands over it changes.",
        *(["In shadow: everything is kept, nothing is stamped."] if mode == "shadow" else []),
        *not_covered,
        *(f"Left out: {comment(line)}." for line in made.left_out),
    ]
    return "".join(f"# {line}\n" for line in head) + write(made)
