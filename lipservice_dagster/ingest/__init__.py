"""Files of other programs' logs into the embedded log store: formats, times, severities, and what was read before."""

from lipservice_dagster.ingest.files import ingest, run_ingest
from lipservice_dagster.ingest.inputs import IngestError

__all__ = ["IngestError", "ingest", "run_ingest"]
