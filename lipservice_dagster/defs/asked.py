"""What a sensor has asked for: how the runs of its keys stand, so that it asks again for what failed and for no more.

A run key that was used once blocks every later run of that key, so a key carries the attempt; and a cursor remembers
what was asked for until it is done.
"""

from collections.abc import Collection, Mapping, Sequence

import dagster as dg

from lipservice_dagster.partitions import TeamDay

MOST_ATTEMPTS = 3
AT_WORK, DONE, FAILED = "at work", "done", "failed"
RUN_KEY, TEAM, REASON = "dagster/run_key", "lipservice/team", "lipservice/reason"
PRIORITY = "dagster/priority"
ONLY_BOOSTS = "lipservice/only_boosts"
"""On a run that moves no base rates, also where its day has closed by the time it reads it."""

_ENDED = {dg.DagsterRunStatus.SUCCESS: DONE, dg.DagsterRunStatus.FAILURE: FAILED, dg.DagsterRunStatus.CANCELED: FAILED}


def states(instance: dg.DagsterInstance, sensor: str, run_keys: Collection[str]) -> Mapping[str, str]:
    """How the runs of these keys stand, in one question; a key of which Dagster knows no run has failed to start."""
    if not run_keys:
        return {}
    tags: dict[str, str | Sequence[str]] = {"dagster/sensor_name": sensor, RUN_KEY: sorted(run_keys)}
    found = {run.tags[RUN_KEY]: _ENDED.get(run.status, AT_WORK) for run in instance.get_runs(dg.RunsFilter(tags=tags))}
    return dict.fromkeys(run_keys, FAILED) | found


def of_range(first: TeamDay, last: TeamDay) -> dict[str, str]:
    """The tags of a run of a range of team-days; none for a single one, which is a partition key."""
    if first == last:
        return {}
    return {"dagster/asset_partition_range_start": first.key, "dagster/asset_partition_range_end": last.key}
