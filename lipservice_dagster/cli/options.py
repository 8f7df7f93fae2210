"""What commands take: days, ends, the options that many share, and the settings."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lipservice_dagster.settings import Settings


class Day(click.ParamType):
    """A UTC day: 2026-09-10, today or yesterday."""

    name = "day"

    def convert(self, value: str | date, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """The day; a usage error says what is wrong."""
        from datetime import timedelta

        if isinstance(value, date):
            return value
        today = datetime.now(UTC).date()
        named = {"today": today, "yesterday": today - timedelta(days=1)}
        try:
            return named.get(value) or date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no day; days read 2026-09-10, today or yesterday", param, ctx)


class End(click.ParamType):
    """A moment to come: 2026-11-27, 2026-11-27T18:00 (UTC where no zone is named), or from now: 90m, 12h, 3d."""

    name = "end"

    def convert(self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The moment; a usage error says what is wrong."""
        from datetime import timedelta

        if isinstance(value, datetime):
            return value
        unit = {"m": "minutes", "h": "hours", "d": "days"}.get(value[-1:])
        try:
            if unit and value[:-1].isdecimal():
                return datetime.now(UTC) + timedelta(**{unit: int(value[:-1])})
            moment = datetime.fromisoformat(value)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is no end; ends read 2026-11-27 (its 00:00 UTC), 2026-11-27T18:00, 90m, 12h or 3d",
                param,
                ctx,
            )


DAY = Day()
END = End()
team_option = click.option(
    "--team", "team_id", type=click.IntRange(0, 2**31 - 1), required=True, help="Number of the team."
)
environment_option = click.option(
    "--environment", default="", help="Environment of the service; empty where it has none."
)
actor_option = click.option("--by", "actor", required=True, help="Who decides this; kept in the ledger.")
reason_option = click.option("--reason", required=True, help="Why; kept in the ledger.")


def read_settings() -> Settings:
    """The settings in force; a click error says which are not valid, and a warning which names are no settings."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from lipservice_dagster.settings import PREFIX, Settings, misspelled

    for name, meant in misspelled().items():
        click.echo(f"Warning: {name} is no setting and is not read; {meant} is one", err=True)
    try:
        return Settings()
    except SettingsError as error:
        # A value that should be JSON and is not; pydantic names the field.
        raise click.ClickException(f"The settings are not valid: {error} (it must be JSON)") from error
    except UnicodeDecodeError as error:
        raise click.ClickException(f"The file .env in this folder is not UTF-8: {error}") from error
    except ValidationError as error:
        fields = (
            PREFIX + str(e["loc"][0]).upper() + "".join(f"[{part}]" for part in e["loc"][1:]) + ": " if e["loc"] else ""
            for e in error.errors()
        )
        problems = "\n".join(f"  {f}{e['msg']}" for f, e in zip(fields, error.errors(), strict=True))
        raise click.ClickException(
            f"The settings are not valid:\n{problems}\n`lipservice config --help` says more"
        ) from error
