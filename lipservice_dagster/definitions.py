"""The code location: nothing but assembly."""

from __future__ import annotations

import gc
from functools import partial

# What is imported stays. Looking through it for garbage over and over takes a fifth of the time that loading takes.
gc.disable()

import warnings

import dagster as dg

from lipservice_dagster.advisors.model import model_of
from lipservice_dagster.core.backtest import GateSettings
from lipservice_dagster.core.volume_spikes import SpikeSettings
from lipservice_dagster.defs import (
    anomaly_reports,
    automation,
    backtests,
    clusters,
    daily,
    discover_teams,
    late_logs,
    marts,
    notify,
    policies,
    policy_exports,
    policy_releases,
    raw_logs,
    run_ends,
    savings,
    signatures,
    stale_reports,
    volume_spikes,
)
from lipservice_dagster.defs.team_day_asset import IO_MANAGER
from lipservice_dagster.partitions import partitions
from lipservice_dagster.settings import Settings
from lipservice_dagster.sources.base import LogSource
from lipservice_dagster.sources.connect import source_of
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.io_manager import TeamDayPostgresIOManager
from lipservice_dagster.storage.source_requests import take

gc.freeze()
gc.enable()


def build_defs(
    settings: Settings, *, database: Database | None = None, log_source: LogSource | None = None
) -> dg.Definitions:
    """The graph for these settings; a test hands in its own database and source. Connects to nothing."""
    _silence_known_warnings()
    team_days = partitions(settings.partitions_start())
    database = database or Database(settings.postgres_dsn.get_secret_value() if settings.postgres_dsn else None)
    graph = [
        *raw_logs.build(team_days),
        *signatures.build(team_days),
        *clusters.build(team_days),
        *anomaly_reports.build(team_days, settings.window_days, settings.detectors()),
        *policies.build(team_days, settings.policy_settings(), settings.price_per_gb, model_of(settings)),
        *backtests.build(
            team_days,
            settings.window_days,
            _gate(settings),
            settings.boost_settings(),
            settings.price_per_gb,
            settings.detectors(),
        ),
        *policy_releases.build(team_days, settings.boost_settings()),
        *policy_exports.build(team_days, settings.exports(), settings.export_formats),
        *savings.build(team_days, settings.price_per_gb),
        *marts.build(team_days, settings),
    ]
    checks = [d for d in graph if isinstance(d, dg.AssetChecksDefinition)]
    return dg.Definitions(
        assets=[d for d in graph if d not in checks],
        asset_checks=checks,
        # A step takes a tenth of a second in the run's own process, and some seconds in one of its own.
        executor=dg.in_process_executor,
        jobs=[automation.build_job(settings.max_runtime_minutes), marts.build_job()],
        schedules=[daily.build(settings)],
        sensors=[
            discover_teams.build(settings),
            volume_spikes.build(settings, _spikes(settings)),
            late_logs.build(settings),
            stale_reports.build(settings),
            marts.build_sensor(settings),
            notify.build(settings),
            *run_ends.build(settings),
        ],
        resources={
            "database": database,
            "log_source": log_source
            or source_of(settings, budget=partial(take, database), say=lambda text: dg.get_dagster_logger().info(text)),
            IO_MANAGER: TeamDayPostgresIOManager(database),
        },
    )


def _gate(settings: Settings) -> GateSettings:
    return GateSettings(
        days=settings.backtest_days,
        min_days=settings.backtest_min_days,
        patterns_share=settings.gate_patterns_share,
        budget_excess=settings.gate_budget_excess,
        day_excess=settings.gate_day_excess,
        anomalies_share=settings.gate_anomalies_share,
        few_anomalies=settings.gate_few_anomalies,
        few_missed=settings.gate_few_missed,
        added=settings.gate_added,
    )


def _spikes(settings: Settings) -> SpikeSettings:
    return SpikeSettings(
        factor=settings.spike_factor, least_logs=settings.spike_least_logs, least_errors=settings.spike_least_errors
    )


def _silence_known_warnings() -> None:
    """What Dagster warns of at every load, and what is meant so."""
    # Backfill policies and multi-dimensional mappings are beta, and what wide runs and the trailing window need.
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    # The trailing consumer has another policy than its parents on purpose; the job takes the narrower one.
    warnings.filterwarnings("ignore", message="Asset job team_day materializes assets with varying BackfillPolicies")


@dg.definitions
def defs() -> dg.Definitions:
    """LipService's definitions, by the settings of the environment."""
    return build_defs(Settings())
