"""policies: one sampling policy a service and environment, from a team-day's patterns and anomalies."""

import dagster as dg
import pandas as pd

from lipservice_dagster.advisors.model import Model
from lipservice_dagster.core import frames
from lipservice_dagster.core.budget import in_words as budget_in_words
from lipservice_dagster.core.budget import key_of
from lipservice_dagster.core.make_policy import make_policies
from lipservice_dagster.core.policy import parse, to_json, version
from lipservice_dagster.core.policy_problem import ServiceDay
from lipservice_dagster.core.policy_settings import PolicySettings
from lipservice_dagster.core.ramp import goals_fingerprint
from lipservice_dagster.defs import shown
from lipservice_dagster.defs.advising import Advice, Consultation
from lipservice_dagster.defs.policy_past import Past
from lipservice_dagster.defs.team_day_asset import show, team_day_asset
from lipservice_dagster.partitions import TeamDay, team_days
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.team_days import TeamDayRows, TeamDayTables

GB = 1e9

LLM_POOL = "llm"
"""Dagster's pool of the steps that may ask a model; its limit is how many do at a time."""


def build(
    partitions: dg.MultiPartitionsDefinition,
    settings: PolicySettings,
    price_per_gb: float,
    model: Model | None = None,
) -> list[dg.AssetsDefinition]:
    """The asset and its check; without a model, rules say what patterns are worth."""

    @team_day_asset(
        partitions=partitions,
        fills=["policies"],
        kinds={"python", "postgres"},
        code_version="6",
        pool=LLM_POOL if model else None,
    )
    def policies(
        context: dg.AssetExecutionContext,
        database: dg.ResourceParam[Database],
        signatures: TeamDayTables,
        clusters: TeamDayTables,
        anomaly_reports: TeamDayTables,
    ) -> TeamDayRows:
        """Sampling policies: how much of each pattern is kept, so that the bill falls and nobody gets blind.

        The advisor (a language model, else rules) says what a pattern is worth, the optimiser turns worth and budget
        into rates. Errors, error-like messages, new, anomalous and rare patterns are kept whole. People's overrides
        bind both, and rates fall step by step from those of the days before.
        """
        wanted = team_days(context.partition_keys)
        consultation = Consultation(model, database, context.run.run_id, context.log)
        made = []
        for team_id, tables in signatures.by_team():
            asked = settings.of_team(team_id)
            days = [d for d in wanted if d.team_id == team_id]
            patterns = tables.read()
            past = Past(database, team_id, [d.day for d in days], asked)
            families, anomalies = clusters.of(days).read(), anomaly_reports.of(days).read("anomalies")
            for at in days:
                of_patterns, of_families, of_anomalies = (
                    f[f["day"] == at.day] for f in (patterns, families, anomalies)
                )
                advice = consultation.advise(
                    at,
                    of_patterns,
                    of_families,
                    of_anomalies,
                    rare_logs=asked.rare_logs,
                    price_per_gb=price_per_gb,
                )
                rows = _policies(at, of_patterns, of_anomalies, advice, asked, past)
                made.append(rows)
                _show(context, at, rows, asked, advice)
        rows = frames.stack([frames.empty(frames.POLICIES), *made])
        return TeamDayRows({"policies": rows}, wanted, made_from=[signatures, clusters, anomaly_reports])

    @dg.asset_check(asset=policies, name="keeps_errors", description="Errors are kept whole, whatever else is dropped.")
    def keeps_errors(
        context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.AssetCheckResult:
        rows = TeamDayTables(database, ("policies",), tuple(team_days(context.partition_keys))).read()
        errors, lost = 0.0, {}
        for row in rows.itertuples():
            effect = parse(str(row.document)).expected.severities
            of_errors = [effect[s] for s in frames.ERROR_SEVERITIES if s in effect]
            errors += sum(e.logs for e in of_errors)
            dropped = sum(e.logs - e.kept_logs for e in of_errors)
            if dropped > 0:
                lost[f"{row.day}|{row.team_id} {row.service}"] = f"{dropped:,.1f} errors would be dropped"
        return dg.AssetCheckResult(
            passed=not lost,
            severity=dg.AssetCheckSeverity.ERROR,
            metadata={"policies": len(rows), "errors": errors} | dict(sorted(lost.items())[:20]),
        )

    return [policies, keeps_errors]


def _policies(
    at: TeamDay, patterns: pd.DataFrame, anomalies: pd.DataFrame, advice: Advice, settings: PolicySettings, past: Past
) -> pd.DataFrame:
    overlays, end = past.overlays(at.day)
    services = []
    for (service, environment), part in patterns.groupby(["service", "environment"], sort=True):
        unusual = anomalies[(anomalies["service"] == service) & (anomalies["environment"] == environment)]
        names = set(part["signature"])
        services.append(
            ServiceDay(
                service,
                environment,
                part,
                unusual,
                overlay=overlays.of(at.team_id, service, environment, end),
                before=past.before(service, environment, at.day),
                llm_model=advice.model_for(names),
                judged_by=advice.sentence(names),
            )
        )
    rows = []
    for policy in make_policies(at.team_id, at.day, services, advice.judgements, settings):
        past.add(policy)
        rows.append(
            {
                "team_id": at.team_id,
                "day": at.day,
                "service": policy.service,
                "environment": policy.environment,
                "version": version(policy),
                "document": to_json(policy),
                "logs": policy.expected.logs,
                "bytes": policy.expected.bytes,
                "kept_logs": policy.expected.kept_logs,
                "kept_bytes": policy.expected.kept_bytes,
                "generated_by": policy.generated_by,
                "budget": key_of(settings),
                "goals_fingerprint": goals_fingerprint(policy),
                "window_fingerprint": policy.ramp.window_fingerprint if policy.ramp else "",
            }
        )
    return pd.DataFrame(rows, columns=list(frames.POLICIES))


def _show(
    context: dg.AssetExecutionContext, at: TeamDay, rows: pd.DataFrame, asked: PolicySettings, advice: Advice
) -> None:
    shown_rows = rows.assign(saved=1 - rows["kept_bytes"] / rows["bytes"].where(rows["bytes"] > 0))
    total, kept = float(rows["bytes"].sum()), float(rows["kept_bytes"].sum())
    show(
        context,
        at,
        {
            "dagster/partition_row_count": len(rows),
            "expected_saving_share": round(1 - kept / total, 4) if total else 0.0,
            "expected_saving_bytes": total - kept,
            "expected_saving_a_month": round((total - kept) / GB * asked.price_per_gb * 30, 2),
            "budget": budget_in_words(asked),
            "policies": shown.table(
                shown_rows.sort_values(["bytes", "service"], ascending=[False, True]),
                ["service", "environment", "version", "generated_by", "logs", "kept_logs", "saved"],
                50,
            ),
        }
        | advice.metadata(),
    )
