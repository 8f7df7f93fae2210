"""`lipservice backfill`: what it refuses before anything is started."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from lipservice_dagster.cli import cli


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--teams", "x", "--from", "2026-09-01", "--to", "2026-09-02"], "'x' names no team"),
        (["--teams", "5-1", "--from", "2026-09-01", "--to", "2026-09-02"], "no range of teams"),
        (["--teams", "1", "--from", "2026-09-03", "--to", "2026-09-02"], "lies before --from"),
        (["--teams", "1", "--from", "soon", "--to", "2026-09-02"], "is no day"),
        (["--from", "2026-09-01", "--to", "2026-09-02"], "--teams"),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_reason(words: list[str], told: str) -> None:
    answer = CliRunner().invoke(cli, ["backfill", *words])
    assert answer.exit_code == 2
    assert told in answer.output
