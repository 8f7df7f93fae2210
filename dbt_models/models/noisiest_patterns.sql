-- The patterns of a team's day with the most bytes; the others are one row, so that nothing is left out of a total.
with patterns as (
    select
        team_id,
        day,
        service,
        environment,
        signature,
        template,
        logs,
        bytes,
        weighted_logs,
        weighted_bytes,
        row_number() over (
            partition by team_id, day order by weighted_bytes desc, service, environment, signature
        ) as place
    from {{ source('lipservice', 'signatures') }}
    where {{ in_days() }}
),
rows_of_the_mart as (
    select
        team_id,
        day,
        place,
        service,
        environment,
        signature,
        template,
        1::bigint as patterns,
        logs,
        bytes,
        weighted_logs,
        weighted_bytes
    from patterns
    where place <= {{ var('noisiest') }}
    union all
    select
        team_id,
        day,
        null,
        null,
        null,
        null,
        'all other patterns',
        count(*),
        sum(logs)::bigint,
        sum(bytes)::bigint,
        sum(weighted_logs),
        sum(weighted_bytes)
    from patterns
    where place > {{ var('noisiest') }}
    group by team_id, day
)
select
    *,
    weighted_bytes / nullif(sum(weighted_bytes) over (partition by team_id, day), 0) as share_of_bytes
from rows_of_the_mart
