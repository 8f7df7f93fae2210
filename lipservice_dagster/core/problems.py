"""What is wrong with a document, for people: which one, which fields, why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError


def explain(name: str, document: str | bytes | Mapping[str, Any], error: ValidationError) -> str:
    """The document's name and scope (where it could be read), then a line for each problem."""
    if isinstance(document, Mapping):
        name += " of team {}, service {!r}, environment {!r}".format(
            *(document.get(key, "?") for key in ("team_id", "service", "environment"))
        )
    lines = [f"{name} is not valid:"]
    for problem in error.errors(include_url=False, include_context=False):
        where = ".".join(str(part) for part in problem["loc"]) or "document"
        got = problem["input"]
        shown = f" (got {got!r})" if isinstance(got, (str, int, float, type(None))) and problem["loc"] else ""
        lines.append(f"  {where}: {problem['msg'].removeprefix('Value error, ')}{shown}")
    return "\n".join(lines)
