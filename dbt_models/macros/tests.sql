{# Rows that share these columns with another one. #}
{% test one_row_for(model, columns) %}
select {{ columns | join(', ') }}, count(*) as found
from {{ model }}
where {{ in_days() }}
group by {{ columns | join(', ') }}
having count(*) > 1
{% endtest %}

{# Days and teams on which a total of the mart is not that of the table it comes from. Sums of floating numbers may
   differ in their last digits, by the order in which they are added. #}
{% test agrees_with(model, total, source_table, source_total, among='true') %}
with mart as (
    select team_id, day, coalesce(sum({{ total }}), 0)::double precision as total
    from {{ model }}
    where {{ in_days() }}
    group by team_id, day
),
origin as (
    select team_id, day, coalesce(sum({{ source_total }}), 0)::double precision as total
    from {{ source_table }}
    where {{ in_days() }} and {{ among }}
    group by team_id, day
)
select team_id, day, mart.total as in_the_mart, origin.total as in_the_table
from mart
full join origin using (team_id, day)
where abs(coalesce(mart.total, 0) - coalesce(origin.total, 0)) > 1e-9 * greatest(abs(coalesce(origin.total, 0)), 1)
{% endtest %}
