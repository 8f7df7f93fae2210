-- How often which kind of anomaly was found in a service's day, and how many logs were too many or missing.
select
    team_id,
    day,
    service,
    environment,
    kind,
    count(*) as anomalies,
    count(*) filter (where severity = 'high') as high,
    count(*) filter (where severity = 'medium') as medium,
    count(*) filter (where severity = 'low') as low,
    sum(end_hour - start_hour)::bigint as hours,
    sum(observed - expected) as logs_off,
    (array_agg(explanation order by p_value, scope, subject, start_hour))[1] as strongest
from {{ source('lipservice', 'anomalies') }}
where {{ in_days() }}
group by team_id, day, service, environment, kind
