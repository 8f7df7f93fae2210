"""/api/v1/patterns/stats, what samplers report; /api/v1/analysis and /api/v1/pipeline, runs of the graph."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from lipservice_dagster.serving.context import Caller, Reader, Reporter, Writer
from lipservice_dagster.serving.models import (
    AskedAnswer,
    AskedDay,
    RunAnswer,
    Statistics,
    StatisticsAnswer,
)
from lipservice_dagster.serving.problems import ProblemError, documented
from lipservice_dagster.serving.runs import ANALYSIS
from lipservice_dagster.storage import reported

router = APIRouter(prefix="/api/v1")
_ERRORS = documented(400, 401, 403, 404, 408, 413, 422)
_LOCATION = {"headers": {"Location": {"schema": {"type": "string"}}}}


@router.post(
    "/patterns/stats", status_code=202, responses=_ERRORS, tags=["samplers"], summary="What a sampler saw and kept"
)
def statistics(sent: Statistics, caller: Reporter) -> StatisticsAnswer:
    """Counted once for each batch_id, however often it is sent."""
    caller.require_team(sent.team_id)
    values = {name: value for name, value in dict(sent).items() if name != "patterns"}
    batch = reported.Batch(**values, patterns=[row.counted for row in sent.patterns])
    new = reported.add(caller.context.database, batch)
    if new:
        counts = caller.context.metrics.reported
        counts.labels(sent.mode, "seen").inc(sum(row.seen for row in sent.patterns))
        counts.labels(sent.mode, "kept").inc(sum(row.kept for row in sent.patterns))
    return StatisticsAnswer(accepted=True, duplicate=not new)


@router.post(
    "/analysis/analyze",
    status_code=202,
    responses={202: _LOCATION, **_ERRORS},
    tags=["runs"],
    summary="Analyse a team-day",
)
def analyze(wanted: AskedDay, caller: Writer, response: Response) -> AskedAnswer:
    """Start the run that takes the day from its logs to the anomaly report. Asked again meanwhile, it is the same."""
    return _ask(wanted, caller, response, ANALYSIS)


@router.post(
    "/pipeline/generate-policy",
    status_code=202,
    responses={202: _LOCATION, **_ERRORS},
    tags=["runs"],
    summary="Take a team-day through the whole graph",
)
def generate_policy(wanted: AskedDay, caller: Writer, response: Response) -> AskedAnswer:
    """Start the run that takes the day from its logs to policies, their backtests and releases."""
    return _ask(wanted, caller, response, None)


@router.get("/analysis/{run_id}", responses=documented(401, 403, 404, 422), tags=["runs"], summary="How a run stands")
def run(run_id: Annotated[str, Path(max_length=100, pattern=r"^[^\x00]*$")], caller: Reader) -> RunAnswer:
    """As Dagster tells it, with what it did to the team's days, asset by asset."""
    found = caller.context.runs.state(run_id, caller.key.team_id)
    if found is None:
        raise ProblemError(404, f"There is no run {run_id!r}")
    return RunAnswer(**found)


def _ask(wanted: AskedDay, caller: Caller, response: Response, assets: tuple[str, ...] | None) -> AskedAnswer:
    caller.require_team(wanted.team_id)
    run_id = caller.context.runs.ask(wanted.team_id, wanted.day, assets, caller.key.name)
    url = f"/api/v1/analysis/{run_id}"
    response.headers["Location"] = url
    return AskedAnswer(run_id=run_id, team_id=wanted.team_id, day=wanted.day, status_url=url)
