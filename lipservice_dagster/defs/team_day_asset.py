"""What all assets by team-day have in common: partitions, owner, storage, retries and the record of runs.

An asset's module says only what is its own: what it reads, which function of `core` it calls, what it shows.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakSet

import adbc_driver_postgresql.dbapi as adbc
import dagster as dg
import sqlalchemy as sa

from lipservice_dagster.partitions import TeamDay, team_days
from lipservice_dagster.run_process import PROCESS_TAG, this_process
from lipservice_dagster.sources.base import LogSourceError, LogSourceRefusedError
from lipservice_dagster.storage import runs
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.io_manager import TABLES
from lipservice_dagster.storage.tables import metadata as tables

IO_MANAGER = "team_days"
OWNERS = ["team:data-engineering"]
GROUP = "team_days"

# What passes by itself (a connection, a busy server) is worth a second try; anything else fails the same again.
_MAY_PASS = (LogSourceError, sa.exc.OperationalError, adbc.OperationalError, OSError)
# psycopg2 gives no code where a connection is refused, so PostgreSQL's words decide.
_MISCONFIGURED = re.compile(r'authentication failed|(database|role) ".*" does not exist|no pg_hba.conf entry')
RETRIES = dg.RetryPolicy(max_retries=2, delay=10, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


def team_day_asset(
    *,
    partitions: dg.MultiPartitionsDefinition,
    fills: Sequence[str],
    kinds: set[str],
    ins: Mapping[str, dg.AssetIn] | None = None,
    deps: Sequence[str] = (),
    backfill_policy: dg.BackfillPolicy | None = None,
    code_version: str,
    main_table: str | None = None,
    pool: str | None = None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """An asset that fills these tables for a set of team-days at a time.

    An asset that stores its rows itself fills none and names its ``main_table``, if it has one. The function's
    docstring is the asset's description. Its beginning and its errors are recorded in analysis_runs;
    its success is recorded by the IO manager, once the rows are stored.
    """

    def decorate(compute: Callable[..., Any]) -> dg.AssetsDefinition:
        name = compute.__name__
        table = main_table or next(iter(fills), None)

        def recorded(context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], **inputs: Any) -> Any:
            partitions_of_run = team_days(context.partition_keys)
            _keep_connections(context.instance)
            _say_which_process(context)
            runs.start(database, context.run.run_id, name, partitions_of_run)
            with runs.failing(database, context.run.run_id, name, partitions_of_run):
                try:
                    return compute(context, database, **inputs)
                except Exception as error:
                    if may_pass(error):
                        raise
                    reason = f"{type(error).__name__}: {error}"
                    raise dg.Failure(f"{name} failed: {reason}", allow_retries=False) from error

        # Dagster reads inputs and resources off the signature.
        signature = inspect.signature(compute)
        recorded.__signature__ = signature  # type: ignore[attr-defined]
        recorded.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        return dg.asset(
            name=name,
            ins=ins,
            deps=list(deps),
            description=inspect.cleandoc(compute.__doc__ or ""),
            partitions_def=partitions,
            io_manager_key=IO_MANAGER,
            group_name=GROUP,
            owners=OWNERS,
            kinds=kinds,
            retry_policy=RETRIES,
            backfill_policy=backfill_policy or dg.BackfillPolicy.single_run(),
            code_version=code_version,
            pool=pool,
            metadata=({"dagster/column_schema": column_schema(table)} if table else {})
            | ({TABLES: ",".join(fills)} if fills else {}),
        )(recorded)

    return decorate


def may_pass(error: Exception) -> bool:
    """Whether another try may go better: not where a question is refused, or a path or a right is missing."""
    if isinstance(error, (LogSourceRefusedError, FileNotFoundError, NotADirectoryError, PermissionError)):
        return False
    if isinstance(error, (sa.exc.OperationalError, adbc.OperationalError)):
        return not _MISCONFIGURED.search(str(error))
    return isinstance(error, _MAY_PASS)


def show(context: dg.AssetExecutionContext, at: TeamDay, metadata: Mapping[str, Any]) -> None:
    """Add what the UI shows of a partition to its materialisation.

    Dagster's own `add_asset_metadata` works out all partitions of the run again each time, to look whether this is one
    of them: minutes for some hundred. What it then does is done here.
    """
    step = context.get_step_execution_context()
    step._metadata_accumulator = step._metadata_accumulator.with_additional_asset_metadata(
        asset_key=context.asset_key, partition_key=str(at), metadata=metadata
    )


def _say_which_process(context: dg.AssetExecutionContext) -> None:
    """Note this process on the run, so that it can be told dead should it be killed."""
    process = this_process()
    if context.run.tags.get(PROCESS_TAG) != process and context.instance.has_run(context.run.run_id):
        context.instance.add_run_tags(context.run.run_id, {PROCESS_TAG: process})


_keeping: WeakSet[dg.DagsterInstance] = WeakSet()


def _keep_connections(instance: dg.DagsterInstance) -> None:
    """Let this process keep its connections to Dagster's storage for some seconds.

    By default Dagster connects anew for each statement, of which an event takes several; on PostgreSQL that costs the
    server many times what the statements do. Its webserver keeps them in the same way; storages that are files do not
    mind. Not for long, so that a server that was restarted is found again.
    """
    if instance not in _keeping:
        instance.optimize_for_webserver(statement_timeout=0, pool_recycle=10, max_overflow=10)
        _keeping.add(instance)


def column_schema(table: str) -> dg.TableSchema:
    """The table's columns as Dagster shows them."""
    definition = tables.tables[table]
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                c.name,
                str(c.type).split(" COLLATE")[0].lower(),
                description=c.doc,
                constraints=dg.TableColumnConstraints(nullable=bool(c.nullable), unique=False),
            )
            for c in definition.columns
        ]
    )
