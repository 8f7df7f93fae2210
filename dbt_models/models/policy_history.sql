-- Each policy with its backtest, and what the ledger says of it: whether it was released, first when, and by whom.
with ledger as (
    select
        team_id,
        day,
        service,
        environment,
        version,
        count(*) as releases,
        min(released_at) as released_at,
        (array_agg(state order by id desc))[1] as state,
        (array_agg(actor order by id desc))[1] as actor,
        (array_agg(reason order by id desc))[1] as reason
    from {{ source('lipservice', 'releases') }}
    where {{ in_days() }}
    group by team_id, day, service, environment, version
),
backtests as (
    select team_id, day, service, environment, passed, learning, why, days
    from {{ source('lipservice', 'backtests') }}
    where {{ in_days() }}
)
select
    team_id,
    day,
    service,
    environment,
    version,
    policies.generated_by,
    policies.kept_bytes / nullif(policies.bytes, 0) as share_kept,
    backtests.passed,
    backtests.learning,
    backtests.why,
    backtests.days as days_replayed,
    coalesce(ledger.releases, 0) as releases,
    ledger.released_at,
    ledger.state,
    ledger.actor,
    ledger.reason
from {{ source('lipservice', 'policies') }} as policies
left join backtests using (team_id, day, service, environment)
left join ledger using (team_id, day, service, environment, version)
where {{ in_days() }}
