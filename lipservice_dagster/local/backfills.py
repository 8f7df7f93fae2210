"""Backfills of any teams × any days: asked for here, run by Dagster's daemon, seen and stopped in the UI like others.

Left to itself, Dagster cuts an asset backfill into runs of a single team or a single day, waits for a tick of its
daemon between an asset and those that read its window, and starts a process for each of these pieces. What is stored
here instead is a backfill that stands where Dagster's daemon leaves one when it is interrupted while it submits runs:
with its targets and with the runs that are still to be submitted, their ids drawn already. So the daemon submits each
of them once, whatever happens to it, and keeps the backfill's state from then on. The runs are ours: all days of some
teams, so that each day finds its window made.

`PartitionBackfill` and `AssetBackfillData` are not part of Dagster's public interface (1.13): nothing else touches
them, and the tests run a real daemon over them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import date

import dagster as dg
import sqlalchemy as sa
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.execution.asset_backfill import AssetBackfillData
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill
from dagster._core.utils import make_new_backfill_id, make_new_run_id

from lipservice_dagster.core.backfill import blocks, shown_teams
from lipservice_dagster.defs.team_day_asset import GROUP
from lipservice_dagster.partitions import TEAMS_NAME, TeamDay
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import analysis_runs

SPEC = "lipservice/backfill"
_RANGE_START, _RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
OF_BACKFILL = "dagster/backfill"
_LONGEST_RUN_SECONDS = 6 * 3600
_ENDED = {
    BulkActionStatus.COMPLETED,
    BulkActionStatus.COMPLETED_SUCCESS,
    BulkActionStatus.COMPLETED_FAILED,
    BulkActionStatus.FAILED,
    BulkActionStatus.CANCELED,
}
_DONE = {BulkActionStatus.COMPLETED, BulkActionStatus.COMPLETED_SUCCESS}


@dataclass(frozen=True)
class Wanted:
    """What a backfill is to make: all days from ``first`` to ``last`` of each team, of ``assets`` (None: of all)."""

    teams: tuple[int, ...]
    first: date
    last: date
    assets: tuple[str, ...] | None = None

    @property
    def days(self) -> int:
        """How many days."""
        return (self.last - self.first).days + 1

    def spec(self) -> str:
        """The same for the same teams, days and assets."""
        teams = hashlib.sha256(shown_teams(self.teams).encode()).hexdigest()[:12]
        return "|".join((f"{self.first}..{self.last}", teams, *sorted(self.assets or ())))

    def __str__(self) -> str:
        teams, days = len(self.teams), self.days
        span = f"{self.first}" if days == 1 else f"{self.first} to {self.last}"
        return f"{teams} team{'s' if teams > 1 else ''}, {span}"


@dataclass(frozen=True)
class Progress:
    """How far a backfill is; ``done`` and ``total`` count partitions of assets, ``runs`` is by status of Dagster."""

    done: int
    total: int
    runs: dict[str, int]
    status: str
    ended: bool
    succeeded: bool


def ask(
    definitions: dg.Definitions, instance: dg.DagsterInstance, wanted: Wanted, *, most: int, parallel: int
) -> tuple[str, Wanted]:
    """Store a backfill for the daemon; returns its id and what it makes.

    One that was asked for with the same teams and days and has not ended is gone on with. Where the last such one
    failed or was stopped, only the teams that it left are asked for. ``most`` is how many team-days a run holds,
    ``parallel`` how many runs go at a time.
    """
    instance.add_dynamic_partitions(TEAMS_NAME, [str(t) for t in wanted.teams])
    before = _earlier(instance, wanted)
    if before and before[0].status not in _ENDED:
        return before[0].backfill_id, wanted
    left = sorted(set(wanted.teams) - _made(instance, before)) or list(wanted.teams)
    part = replace(wanted, teams=tuple(left))
    # The order is Dagster's: a range of teams is one of its list.
    order = [int(t) for t in instance.get_dynamic_partitions(TEAMS_NAME)]
    shared = blocks(order, left, wanted.days, most, parallel)
    backfill_id = make_new_backfill_id()
    instance.add_backfill(_backfill(definitions, instance, backfill_id, wanted, part, shared))
    return backfill_id, part


def run_ids(instance: dg.DagsterInstance, backfill_id: str) -> list[str]:
    """The ids that the runs of a backfill have, or will have; KeyError where there is no such backfill."""
    found = instance.get_backfill(backfill_id)
    if found is None:
        raise KeyError(f"there is no backfill {backfill_id}")
    return list(found.reserved_run_ids or ())


def progress(
    instance: dg.DagsterInstance, database: Database, definitions: dg.Definitions, backfill_id: str
) -> Progress:
    """How far the backfill is by now; KeyError where there is none."""
    found = instance.get_backfill(backfill_id)
    if found is None:
        raise KeyError(f"there is no backfill {backfill_id}")
    asked = found.get_asset_backfill_data(definitions.resolve_asset_graph())
    total = sum(len(subset) for subset in asked.target_subset.partitions_subsets_by_asset_key.values())
    runs = instance.get_runs(dg.RunsFilter(tags={OF_BACKFILL: backfill_id}))
    by_status: dict[str, int] = {}
    for run in runs:
        by_status[run.status.value] = by_status.get(run.status.value, 0) + 1
    return Progress(
        _succeeded(database, [r.run_id for r in runs]),
        total,
        by_status,
        found.status.value,
        found.status in _ENDED,
        found.status in _DONE,
    )


def failures(instance: dg.DagsterInstance, backfill_id: str) -> list[str]:
    """The runs of a backfill that failed and were not made good by another, each with its range and its error."""
    runs = instance.get_runs(dg.RunsFilter(tags={OF_BACKFILL: backfill_id}))
    good = {_range(r) for r in runs if r.status == dg.DagsterRunStatus.SUCCESS}
    told = []
    for run in runs:
        if not run.is_finished or _range(run) in good:
            continue
        events = instance.all_logs(
            run.run_id, of_type={dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
        )
        why = next((e.dagster_event.message for e in events if e.dagster_event and e.dagster_event.message), "")
        first, last = _range(run)
        told.append(f"run {run.run_id} ({first} to {last}) {run.status.value.lower()}: {why or 'its events say why'}")
    return told


def _backfill(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    backfill_id: str,
    wanted: Wanted,
    part: Wanted,
    shared: list[list[int]],
) -> PartitionBackfill:
    graph = definitions.resolve_asset_graph()
    everything = dg.AssetSelection.groups(GROUP)
    selection = everything if wanted.assets is None else everything & dg.AssetSelection.assets(*wanted.assets)
    assets = sorted(selection.resolve(graph))
    checks = sorted(graph.get_check_keys_for_assets(set(assets)))
    keys = {str(TeamDay(team, date.fromordinal(n))) for team in part.teams for n in _ordinals(part)}
    targets = AssetGraphSubset.create_empty_subset()._replace(
        partitions_subsets_by_asset_key={
            a: graph.get(a).partitions_def.subset_with_partition_keys(keys)  # type: ignore[union-attr]
            for a in assets
        },
    )
    now = time.time()
    data = AssetBackfillData.from_asset_graph_subset(targets, instance, now)._replace(
        requested_runs_for_target_roots=True,
        # From here on the daemon looks for what the runs have made.
        latest_storage_id=instance.event_log_storage.get_maximum_record_id() or 0,
    )
    requests = [
        dg.RunRequest(
            asset_selection=assets,
            asset_check_keys=checks,
            tags={
                _RANGE_START: str(TeamDay(block[0], part.first)),
                _RANGE_END: str(TeamDay(block[-1], part.last)),
                "dagster/max_runtime": str(_LONGEST_RUN_SECONDS),
            },
        )
        for block in shared
    ]
    plain = PartitionBackfill(
        backfill_id=backfill_id,
        status=BulkActionStatus.REQUESTED,
        from_failure=False,
        tags={SPEC: wanted.spec()},
        backfill_timestamp=now,
        asset_selection=assets,
        title=str(part),
        description=f"teams {shown_teams(part.teams)}"[:1_000],
    )
    return plain.with_asset_backfill_data(data, instance, graph).with_submitting_run_requests(
        requests, [make_new_run_id() for _ in requests]
    )


def _ordinals(wanted: Wanted) -> Iterable[int]:
    return range(wanted.first.toordinal(), wanted.last.toordinal() + 1)


def _earlier(instance: dg.DagsterInstance, wanted: Wanted) -> list[PartitionBackfill]:
    """The backfills with these teams and days since the last that made all of it, the newest first."""
    asked = instance.get_backfills(filters=BulkActionsFilter(tags={SPEC: wanted.spec()}))
    found = []
    for backfill in sorted(asked, key=lambda b: b.backfill_timestamp, reverse=True):
        if backfill.status in _DONE:
            break
        found.append(backfill)
    return found


def _made(instance: dg.DagsterInstance, backfills: Collection[PartitionBackfill]) -> set[int]:
    """The teams that runs of these backfills have made with all their days."""
    order = [int(t) for t in instance.get_dynamic_partitions(TEAMS_NAME)]
    made: set[int] = set()
    for backfill in backfills:
        runs = instance.get_runs(
            dg.RunsFilter(tags={OF_BACKFILL: backfill.backfill_id}, statuses=[dg.DagsterRunStatus.SUCCESS])
        )
        for first, last in map(_range, runs):
            made.update(order[order.index(first.team_id) : order.index(last.team_id) + 1])
    return made


def _range(run: dg.DagsterRun) -> tuple[TeamDay, TeamDay]:
    return TeamDay.parse(run.tags[_RANGE_START]), TeamDay.parse(run.tags[_RANGE_END])


def _succeeded(database: Database, run_ids: list[str]) -> int:
    """How many partitions of assets these runs have made."""
    rows = (
        sa.select(analysis_runs.c.asset, analysis_runs.c.team_id, analysis_runs.c.day)
        .where(analysis_runs.c.run_id.in_(run_ids), analysis_runs.c.status == "succeeded")
        .distinct()
        .subquery()
    )
    with database.engine.connect() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(rows)).scalar_one()
