{# The days that are being built, as a condition. #}
{% macro in_days() %}
day between '{{ var("first_day") }}'::date and '{{ var("last_day") }}'::date
{% endmacro %}

{# Run before a model's rows are added, in the same transaction. #}
{% macro empty_the_days() %}
{% if is_incremental() %}delete from {{ this }} where {{ in_days() }}{% endif %}
{% endmacro %}
