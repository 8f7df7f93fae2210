"""What changes in the ledgers while a server runs: PostgreSQL tells of it (triggers of the migrations, LISTEN here)."""

from __future__ import annotations

import asyncio
import logging
import select
import threading
from collections.abc import Callable

import psycopg2
import sqlalchemy as sa

CHANNEL = "lipservice_changed"
_LOOK_SECONDS = 0.1
_PULSE_SECONDS = 5.0
_AGAIN_SECONDS = 0.5
_LOGGER = logging.getLogger(__name__)


class Changes:
    """A connection that listens; ``heard`` is called with the team of each change, on the event loop.

    ``alive`` is false while there is no such connection: nothing may be held then, for its end would not be heard.
    ``heard(None)`` says that anything may have changed.
    """

    def __init__(self, dsn: str, heard: Callable[[int | None], None]):
        self._dsn = sa.make_url(dsn).set(drivername="postgresql").render_as_string(hide_password=False)
        self._heard = heard
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lipservice-changes", daemon=True)
        self.alive = False

    def start(self) -> None:
        """Begin, on the event loop that runs."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except psycopg2.Error as error:
                if self.alive:
                    _LOGGER.warning("PostgreSQL does not tell of changes, nothing is held until it does: %s", error)
                self._tell(self._lost)
                self._stop.wait(_AGAIN_SECONDS)

    def _listen(self) -> None:
        # A peer that is gone without a word is noticed in seconds.
        waits = {"connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 2}
        connection = psycopg2.connect(self._dsn, application_name="lipservice changes", tcp_user_timeout=5000, **waits)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"LISTEN {CHANNEL}")
                self._tell(self._found)
                quiet = 0.0
                while not self._stop.is_set():
                    if select.select([connection], [], [], _LOOK_SECONDS)[0]:
                        connection.poll()
                    elif (quiet := quiet + _LOOK_SECONDS) >= _PULSE_SECONDS:
                        quiet = 0.0
                        cursor.execute("SELECT 1")
                    while connection.notifies:
                        self._tell(self._heard, int(connection.notifies.pop(0).payload))
        finally:
            connection.close()

    def _found(self) -> None:
        self._heard(None)
        self.alive = True

    def _lost(self) -> None:
        self.alive = False
        self._heard(None)

    def _tell(self, what: Callable[..., None], *values: int) -> None:
        if not self._stop.is_set():
            self._loop.call_soon_threadsafe(what, *values)
