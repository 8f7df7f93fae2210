"""notify: the sensor that tells people by webhook of failed runs, failed gates and high anomalies, once each."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from lipservice_dagster.notifications import message, post
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage import notifications
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.notifications import Entry

NAME = "notify"
_MOST_MESSAGES = 20


def build(settings: Settings) -> dg.SensorDefinition:
    """The sensor; without a webhook it only says so."""

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=settings.notify_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells a webhook of failed runs, failed gates and anomalies of high severity, once each.",
    )
    def sensor(context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]) -> dg.SkipReason:
        if settings.webhook_url is None:
            return dg.SkipReason("no webhook is set: LIPSERVICE_WEBHOOK_URL")
        url = settings.webhook_url.get_secret_value()
        notifications.collect(database, datetime.now(UTC).date() - timedelta(days=settings.notify_days - 1))
        now = datetime.now(UTC)  # what was just added is due

        def send(entries: list[Entry]) -> None:
            post(url, message(entries, settings))

        sent = 0
        for _ in range(_MOST_MESSAGES):
            done = notifications.send_due(database, now, send)
            if done is None:
                break
            if done[1]:
                # A webhook that is away would hold up the tick for each message; the others have their turn next time.
                return dg.SkipReason(f"{sent} messages sent; one was not and will be tried again: {done[1]}")
            sent += 1
        return dg.SkipReason(f"{sent} messages sent")

    return sensor
