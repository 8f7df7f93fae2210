"""`lipservice serve`: the application on a port."""

from __future__ import annotations

from contextlib import suppress

import uvicorn

from lipservice_dagster.local import stack
from lipservice_dagster.serving.app import create_app
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage.database import Database


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM, over the servers of the settings or the embedded ones."""
    with stack.dagster_home(settings) as (in_force, database), suppress(KeyboardInterrupt):
        server(in_force, database, host, port).run()


def server(settings: Settings, database: Database, host: str, port: int) -> uvicorn.Server:
    """The server, ready to run; one process, one event loop."""
    config = uvicorn.Config(
        create_app(settings, database),
        host=host,
        port=port,
        http="httptools",
        access_log=False,  # what is asked is in /metrics
        log_level="warning",
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )
    return uvicorn.Server(config)
