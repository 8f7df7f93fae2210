"""The API as a process of its own beside the others of `lipservice dev`, whose servers run already."""

from lipservice_dagster.cli.stack import serve

serve()
