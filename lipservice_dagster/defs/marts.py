"""marts: what the days of all teams say together, made by dbt in PostgreSQL, a day of all teams at a time.

dbt's models are assets by day below those by team-day, and dbt's tests are their checks. The sensor asks for a day once
its teams are done, and again where its tables have changed since.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from lipservice_dagster.defs import automation
from lipservice_dagster.defs.marts_translated import GROUP, UNIQUE_ID, Check, Model, models
from lipservice_dagster.defs.team_day_asset import OWNERS
from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage import dbt, marts
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.late_logs import ASSETS

JOB = "marts_of_a_day"
SENSOR = "marts_of_finished_days"
MOST_ATTEMPTS = 3
_MAX_RUNTIME_SECONDS = 3600
_AT_WORK = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def build(partitions: dg.MultiPartitionsDefinition, settings: Settings) -> list[dg.AssetsDefinition]:
    """The assets, with their checks."""
    variables = {"price_per_gb": settings.price_per_gb, "noisiest": settings.marts_patterns}
    basis = basis_of(settings)

    project = models(settings.home)

    @dg.multi_asset(
        specs=[_spec(model) for model in project],
        check_specs=[_check(check, model) for model in project for check in model.checks],
        name="marts",
        can_subset=True,
        partitions_def=partitions.get_partitions_def_for_dimension("day"),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def marts_of_days(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        """Build the selected models and run their tests for the run's days."""
        first, last = (date.fromisoformat(k) for k in (context.partition_keys[0], context.partition_keys[-1]))
        wanted = {str(context.assets_def.specs_by_key[k].metadata[UNIQUE_ID]): k for k in context.selected_asset_keys}
        checks = {
            str(spec.metadata[UNIQUE_ID]): spec.key
            for spec in context.assets_def.check_specs
            if spec.key in context.selected_asset_check_keys
        }
        days = {"first_day": first.isoformat(), "last_day": last.isoformat()}
        with marts.building(database):
            # Read before: what is written while dbt reads is a change since, and the sensor asks again.
            made_of = marts.fingerprints(database, first, last, basis)
            results = dbt.build(
                database, [i.split(".")[-1] for i in wanted], variables | days, settings.marts_schema, context.log.info
            )
        failed = [f"{r.unique_id}: {r.message}" for r in results if r.unique_id in wanted and not r.passed]
        for result in results:
            if result.unique_id in wanted and result.passed:
                yield dg.MaterializeResult(asset_key=wanted[result.unique_id], metadata=_metadata(result))
            elif result.unique_id in checks and result.status != "skipped":
                key = checks[result.unique_id]
                yield dg.AssetCheckResult(
                    asset_key=key.asset_key,
                    check_name=key.name,
                    passed=result.passed,
                    description=result.message or None,
                    metadata={"failing_rows": result.failures or 0, "seconds": result.seconds},
                )
        if failed:
            raise dg.Failure(f"dbt could not build {len(failed)} of {len(wanted)} models. First {failed[0]}")
        if len(wanted) == len(context.assets_def.keys) and all(r.passed for r in results):
            marts.note(database, made_of, context.run.run_id)

    return [marts_of_days]


def _spec(model: Model) -> dg.AssetSpec:
    # What a day's model reads of a table of ours is that day of all teams.
    day = dg.MultiToSingleDimensionPartitionMapping("day")
    columns = [dg.TableColumn(name, kind, description=text or None) for name, kind, text in model.columns]
    return dg.AssetSpec(
        dg.AssetKey(model.key),
        deps=[dg.AssetDep(dg.AssetKey(k), partition_mapping=day) for k in model.sources]
        + [dg.AssetDep(dg.AssetKey(k)) for k in model.models],
        description=model.description,
        group_name=GROUP,
        owners=OWNERS,
        tags=model.tags,
        code_version=model.code_version,
        skippable=True,
        metadata={**model.metadata, "dagster/column_schema": dg.TableSchema(columns)},
    )


def _check(check: Check, model: Model) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        check.name,
        asset=dg.AssetKey(model.key),
        description=check.description,
        additional_deps=[dg.AssetKey(k) for k in check.reads],
        blocking=check.blocking,
        metadata={UNIQUE_ID: check.unique_id},
    )


def _metadata(result: dbt.Result) -> dict[str, Any]:
    return {"seconds": result.seconds} | ({} if result.rows is None else {"rows_added": result.rows})


def build_job() -> Any:
    """All marts of a day, or of a range of days in one run."""
    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.groups(GROUP),
        description="The marts of the days of all teams.",
        tags={"dagster/max_runtime": str(_MAX_RUNTIME_SECONDS)},
    )


def basis_of(settings: Settings) -> str:
    """What decides on the marts beside the tables: dbt's project and the settings."""
    decides = [dbt.fingerprint(), settings.marts_schema, settings.marts_patterns, settings.price_per_gb]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]


def build_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor."""

    @dg.sensor(
        name=SENSOR,
        job_name=JOB,
        minimum_interval_seconds=settings.marts_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Makes the marts of a day once its teams are done, and again where its tables have changed since.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]
    ) -> dg.SensorResult | dg.SkipReason:
        yesterday = datetime.now(UTC).date() - timedelta(days=1)
        stale = marts.stale(database, settings.partitions_start(), yesterday, basis_of(settings))
        busy = busy_days(context.instance) if stale else set()
        asked = {d: Asked(*a) for d, a in json.loads(context.cursor or "{}").items() if date.fromisoformat(d) in stale}
        ready, asked = plan(stale, busy, asked)
        cursor = json.dumps({d: [a.fingerprint, a.attempt] for d, a in sorted(asked.items())})
        if ready:
            return dg.SensorResult(run_requests=[_request(days, asked) for days in _in_a_row(ready)], cursor=cursor)
        context.update_cursor(cursor)
        if not stale:
            return dg.SkipReason("the marts of every finished day hold what its tables hold")
        waiting = len(busy & set(stale))
        given_up = f"; {len(stale) - waiting} failed {MOST_ATTEMPTS} times: see their runs"
        return dg.SkipReason(f"{waiting} days whose teams are at work{given_up if len(stale) > waiting else ''}")

    return sensor


@dataclass(frozen=True)
class Asked:
    """For what a day's marts were asked for last, and in which attempt."""

    fingerprint: str
    attempt: int


def plan(stale: Mapping[date, str], busy: set[date], asked: Mapping[str, Asked]) -> tuple[list[date], dict[str, Asked]]:
    """(days whose marts are made now; what has been asked for from then on).

    A day waits while a run is at work on it, and is given up after some attempts until its tables change once more.
    """
    after = dict(asked)
    ready = []
    for day, fingerprint in sorted(stale.items()):
        before = asked.get(day.isoformat())
        tried = before.attempt if before is not None and before.fingerprint == fingerprint else 0
        if day not in busy and tried < MOST_ATTEMPTS:
            ready.append(day)
            after[day.isoformat()] = Asked(fingerprint, tried + 1)
    return ready, after


def busy_days(instance: dg.DagsterInstance) -> set[date]:
    """The days that runs which have not ended are about: of teams, and of the marts themselves."""
    found: set[date] = set()
    for run in filter(_ours, instance.get_runs(dg.RunsFilter(statuses=_AT_WORK))):
        keys = [run.tags.get(f"dagster/{t}") for t in ("asset_partition_range_start", "asset_partition_range_end")]
        if None in keys:
            keys = [run.tags.get("dagster/partition")] * 2
        days = [_day_of(key) for key in keys if key]
        if days:
            found |= {min(days) + timedelta(days=n) for n in range((max(days) - min(days)).days + 1)}
    return found


def _ours(run: dg.DagsterRun) -> bool:
    """Whether a run makes any of our assets: the instance may hold other code locations' runs, whose partitions are
    named otherwise."""
    made = {key.path[0] for key in run.asset_selection or ()}
    return run.job_name in (JOB, automation.JOB) or not made.isdisjoint((*ASSETS, GROUP))


def _day_of(key: str) -> date:
    return TeamDay.parse(key).day if "|" in key else date.fromisoformat(key)


def _in_a_row(days: Sequence[date]) -> Iterator[list[date]]:
    group: list[date] = []
    for day in days:
        if group and day - group[-1] > timedelta(days=1):
            yield group
            group = []
        group.append(day)
    if group:
        yield group


def _request(days: Sequence[date], asked: Mapping[str, Asked]) -> dg.RunRequest:
    first, last = days[0].isoformat(), days[-1].isoformat()
    content = hashlib.sha256("".join(asked[d.isoformat()].fingerprint for d in days).encode()).hexdigest()[:16]
    attempt = max(asked[d.isoformat()].attempt for d in days)
    ends = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    return dg.RunRequest(
        run_key=f"{first}|{last}|{content}|attempt {attempt}",
        partition_key=first if first == last else None,
        tags={} if first == last else ends,
    )
