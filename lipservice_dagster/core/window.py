"""A team-day's count series with its window, from the stored tables: the input of the anomaly detector."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pandas as pd

from lipservice_dagster.core.series import Series, build_series
from lipservice_dagster.core.templates import mine
from lipservice_sampler.matching import Matcher


def day_series(
    today: pd.DataFrame, window: pd.DataFrame, days: Sequence[date], members: pd.DataFrame, signatures: pd.DataFrame
) -> Series:
    """`build_series` with the window's masked messages matched against today's templates, and mined where none fits.

    The frames are those of `build_series`: raw logs of the day and of the window's ``days``, the day's members and
    signatures.
    """
    matchers = {service: Matcher(set(part["template"])) for service, part in signatures.groupby("service", sort=True)}

    def match(service: str, messages: list[str]) -> list[str | None]:
        matcher = matchers.get(service)
        return [None] * len(messages) if matcher is None else matcher.match_many(messages)

    def mined(_service: str, messages: list[str]) -> list[str]:
        found = mine(messages)
        return [found.templates[i] for i in found.assignment]

    return build_series(today, window, days, members, signatures, match, mined)
