"""What people are told by webhook: messages as Slack (and what speaks like it) takes them, with links into the UI.

What belongs here: the words, and sending them. What there is to tell, and that each is told once, is the ledger's
(`storage.notifications`). What leaves the machine is scrubbed, and of a pattern that few logs share the text is left
out.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from http import HTTPStatus
from http.client import HTTPException
from typing import Any
from urllib.parse import quote

from lipservice_dagster.core.scrub import scrub
from lipservice_dagster.settings import Settings
from lipservice_dagster.storage.notifications import FAILED_GATE, FAILED_RUN, Entry

_TIMEOUT_SECONDS = 10
_LINES = 10
_LONGEST_LINE = 300


class WebhookError(Exception):
    """The webhook did not take a message; the text says what it answered, and nothing of its address."""


def message(entries: Sequence[Entry], settings: Settings) -> dict[str, str]:
    """The payload for entries of one topic: ``{"text": …}`` in Slack's mrkdwn."""
    first = entries[0]
    if first.kind == FAILED_RUN:
        run_id, of = first.details["run_id"], first.details["of"]
        head = f":x: {_link(settings, f'runs/{run_id}', f'Run {run_id[:8]}')} failed{f', of {of}' if of else ''}"
        lines = [_text(first.details["error"])]
    else:
        asset, what = (
            ("backtests", "did not pass the gate: their policies are not released")
            if first.kind == FAILED_GATE
            else ("anomaly_reports", "out of the ordinary, of high severity")
        )
        team, day = settings.team_name(first.details["team_id"]), first.details["day"]
        place = f"assets/{asset}?view=partitions&partition={quote(first.topic)}"
        icon = ":no_entry:" if first.kind == FAILED_GATE else ":rotating_light:"
        head = f"{icon} {_escaped(team)}, {_link(settings, place, day)}: {len(entries)} {what}"
        lines = [_line(e, settings) for e in entries]
    more = [f"… and {len(lines) - _LINES} more"] if len(lines) > _LINES else []
    return {"text": "\n".join([head, *(f"• {line}" for line in lines[:_LINES]), *more])}


def post(url: str, payload: dict[str, str]) -> None:
    """Send a payload. Raises WebhookError where the webhook does not take it within some seconds, or sends us on."""
    try:
        request = urllib.request.Request(url, json.dumps(payload).encode(), {"Content-Type": "application/json"})  # noqa: S310
        with _OPENER.open(request, timeout=_TIMEOUT_SECONDS):
            return
    except urllib.error.HTTPError as error:
        # Not the server's own words, which may repeat the address.
        words = HTTPStatus(error.code).phrase if error.code in set(HTTPStatus) else ""
        raise WebhookError(f"the webhook answered {error.code} {words}".rstrip()) from None
    except urllib.error.URLError as error:
        reason = error.reason if isinstance(error.reason, OSError) else type(error).__name__
        raise WebhookError(f"the webhook did not answer: {reason}") from None
    except (OSError, ValueError, HTTPException) as error:
        raise WebhookError(f"the webhook did not answer: {type(error).__name__}") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A message that is sent on comes as a GET without its body: nobody would have been told."""

    def redirect_request(self, *_: Any) -> None:
        """None: the answer that sends on is an error."""


_OPENER = urllib.request.build_opener(_NoRedirect)


def _line(entry: Entry, settings: Settings) -> str:
    told = entry.details
    place = told["service"] or "(no service)"
    if told["environment"]:
        place += f" ({told['environment']})"
    if entry.kind == FAILED_GATE:
        return f"{_text(place)}: {_text(told['why'])}"
    # Of what fewer logs share than may leave the machine, only where and what, never its words.
    if told["scope"] == "pattern" and told["observed"] < settings.llm_min_logs:
        return f"{_text(place)}: {told['kind'].replace('_', ' ')} of a pattern"
    return _text(told["explanation"])


def _text(text: str) -> str:
    text = " ".join(scrub(text).split())
    return _escaped(text if len(text) <= _LONGEST_LINE else text[: _LONGEST_LINE - 1] + "…")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _link(settings: Settings, path: str, label: str) -> str:
    return f"<{settings.ui_address()}/{path}|{_escaped(label)}>"
