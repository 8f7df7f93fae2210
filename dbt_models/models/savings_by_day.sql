-- A service's day: what the day's policy would keep of it, and what live releases in fact kept.
with policies as (
    select team_id, day, service, environment, logs, bytes, kept_logs, kept_bytes
    from {{ source('lipservice', 'policies') }}
    where {{ in_days() }}
),
measured as (
    select team_id, day, service, environment, version, live_hours, bytes, kept_bytes, expected_bytes
    from {{ source('lipservice', 'savings') }}
    where {{ in_days() }}
)
select
    team_id,
    day,
    service,
    environment,
    policies.logs as policy_logs,
    policies.bytes as policy_bytes,
    policies.kept_logs as policy_kept_logs,
    policies.kept_bytes as policy_kept_bytes,
    policies.bytes - policies.kept_bytes as policy_saved_bytes,
    (policies.bytes - policies.kept_bytes) / 1e9 * {{ var('price_per_gb') }} as policy_saved_money,
    measured.version as live_version,
    measured.live_hours,
    measured.bytes as live_bytes,
    measured.kept_bytes as live_kept_bytes,
    measured.expected_bytes as live_expected_bytes,
    measured.bytes - measured.kept_bytes as live_saved_bytes,
    measured.bytes - measured.expected_bytes as live_expected_saved_bytes,
    (measured.bytes - measured.kept_bytes) / 1e9 * {{ var('price_per_gb') }} as live_saved_money
from policies
full join measured using (team_id, day, service, environment)
