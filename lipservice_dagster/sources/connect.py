"""The log source that the settings name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lipservice_dagster.settings import Settings
from lipservice_dagster.sources import clickhouse
from lipservice_dagster.sources.base import LogSource, LogSourceError
from lipservice_dagster.sources.limits import QueryLimits

if TYPE_CHECKING:
    from lipservice_dagster.sources.posthog_api import Budget

_PLACE = re.compile(r"(.*?)/project/([0-9]+(?:,[0-9]+)*)/?")


def source_of(
    settings: Settings, *, budget: Budget | None = None, say: Callable[[str], None] = lambda _: None
) -> LogSource:
    """The source behind ``settings.logs_url()``; connects to nothing.

    ``budget`` is what requests of a store with a limit an hour are taken from; progress goes to ``say``. Raises
    LogSourceError where the DSN or a key is not as it should be.
    """
    limits = QueryLimits(
        settings.max_messages, settings.max_threads, settings.max_memory_bytes, settings.query_timeout_seconds
    )
    dsn = settings.logs_url()
    if not dsn.startswith("posthog+"):
        return clickhouse.connect(dsn, limits)
    from lipservice_dagster.sources.posthog import PostHogSource  # the code location loads faster without
    from lipservice_dagster.sources.posthog_api import Api, ApiLimits

    base, projects = posthog_projects(dsn)
    asked = ApiLimits(
        timeout_seconds=settings.posthog_timeout_seconds,
        retries=settings.posthog_retries,
        queries_per_hour=settings.posthog_queries_per_hour,
        pages_per_hour=settings.posthog_pages_per_hour,
    )
    apis = {}
    for project in projects:
        key = settings.posthog_keys.get(project) or settings.posthog_api_key
        if key is None:
            raise LogSourceError(
                f"No key of PostHog project {project} is set: make a personal API key with the scopes query:read and"
                " logs:read (in PostHog: Settings, Personal API keys) and set LIPSERVICE_POSTHOG_API_KEY, or"
                f' LIPSERVICE_POSTHOG_KEYS={{"{project}": "phx_…"}} where projects have keys of their own'
            )
        apis[project] = Api(base, project, key.get_secret_value(), asked, budget=budget, say=say)
    return PostHogSource(apis, settings.home / "posthog_pages", limits, say)


def posthog_projects(dsn: str) -> tuple[str, list[int]]:
    """(address, numbers of projects) of a DSN ``posthog+https://eu.posthog.com/project/123`` or ``…/123,456``.

    Raises LogSourceError where it does not read so.
    """
    parts = urlsplit(dsn.removeprefix("posthog+"))
    if parts.username or parts.password or parts.query:
        raise LogSourceError(
            "LIPSERVICE_LOGS_DSN of PostHog's API holds no key and no options: the key goes into"
            " LIPSERVICE_POSTHOG_API_KEY"
        )
    found = _PLACE.fullmatch(parts.path)
    if not found or not parts.hostname:
        raise LogSourceError(
            "LIPSERVICE_LOGS_DSN of PostHog's API reads posthog+https://eu.posthog.com/project/123 (several projects:"
            " /project/123,456); the number stands in PostHog under Settings, Project"
        )
    return f"{parts.scheme}://{parts.netloc}{found[1]}", sorted({int(n) for n in found[2].split(",")})
