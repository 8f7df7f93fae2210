# One image for every part of LipService: code location, webserver, daemon, runs and API.
FROM python:3.13-slim AS build
WORKDIR /opt/lipservice/source
RUN pip install --no-cache-dir uv && python -m venv /opt/lipservice/venv
COPY pyproject.toml requirements.lock README.md ./
COPY lipservice_sampler ./lipservice_sampler
COPY lipservice_dagster ./lipservice_dagster
COPY dbt_models ./dbt_models
# Overrides and not constraints: the lock says exactly what is installed. What only tests need is left out.
RUN uv pip install --no-cache --no-sources --compile-bytecode --python /opt/lipservice/venv/bin/python --override requirements.lock \
    ./lipservice_sampler ".[openai]"
# The marts' models, read once here: the code location then loads without dbt.
RUN cd / && /opt/lipservice/venv/bin/python -m lipservice_dagster.defs.marts_translated

FROM python:3.13-slim
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/lipservice lipservice \
    && install -d -o lipservice -g lipservice /var/lib/lipservice
COPY --from=build /opt/lipservice/venv /opt/lipservice/venv
COPY deploy/dagster /opt/lipservice/dagster_home
COPY deploy/answers.py /opt/lipservice/answers.py
ENV PATH=/opt/lipservice/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DAGSTER_HOME=/opt/lipservice/dagster_home LIPSERVICE_HOME=/var/lib/lipservice \
    DAGSTER_EVENT_BATCH_SIZE=200
WORKDIR /var/lib/lipservice
USER 10001:10001
VOLUME /var/lib/lipservice
CMD ["lipservice", "--help"]
