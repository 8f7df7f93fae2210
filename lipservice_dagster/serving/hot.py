"""The one request that nearly all are, answered from memory without the way through the framework.

Every sampler asks for its policy every half minute. What is asked as samplers ask it, with a key and for a policy that
are held, is answered here; all else, and whatever is in any way odd, goes on to the route, which gives the same
answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl, unquote

from starlette.types import ASGIApp, Receive, Scope, Send

from lipservice_dagster.core.exports import FORMATS
from lipservice_dagster.serving.context import Context
from lipservice_dagster.serving.policy_answers import Asked, Finished, names
from lipservice_dagster.serving.problems import ProblemError
from lipservice_dagster.storage import keys
from lipservice_dagster.storage.served import Scope as Whose

_TEAM = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_MOST_REMEMBERED = 50_000
_LONGEST = 500


class Hot:
    """A layer of the application (ASGI) below `Door`, which has set the path as it was sent.

    ``route`` is the one whose requests these are; its path is that of the metrics.
    """

    def __init__(self, app: ASGIApp, context: Context, route: object, prefix: str):
        self._app, self._context, self._route, self._prefix = app, context, route, prefix
        self._asked: dict[tuple[str, bytes], Asked | None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"].startswith(self._prefix):
            try:
                found = self._found(scope)
            except ProblemError as problem:
                scope["route"] = self._route
                await problem.response()(scope, receive, send)
                return
            if found is not None:
                scope["route"] = self._route
                answer, same = found
                headers = answer.not_modified if same else answer.whole
                await send({"type": "http.response.start", "status": 304 if same else 200, "headers": headers})
                await send({"type": "http.response.body", "body": b"" if same else answer.body})
                return
        await self._app(scope, receive, send)

    def _found(self, scope: Scope) -> tuple[Finished, bool] | None:
        """What is held of what is asked, and whether who asks has it. Raises ProblemError (429)."""
        about = (scope["path"], scope["query_string"])
        asked = self._asked[about] if about in self._asked else self._read(*about)
        given = _headers(scope["headers"]) if asked is not None else None
        if asked is None or given is None:
            return None
        secret, has = given
        key = self._context.keys.get(keys.hashed(secret))
        if key is None or key.team_id != asked.scope.team_id or not key.may(keys.READ):
            return None
        found = self._context.policies.held(asked)
        if found is None:
            return None
        self._context.rates.take(key.id)
        return found, names(has, found.etag)

    def _read(self, path: str, query: bytes) -> Asked | None:
        """What is asked, where it is asked plainly; remembered."""
        asked = None
        name = path[len(self._prefix) :]
        given = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        values = dict(given)
        if (
            name
            and "/" not in name
            and len(values) == len(given)
            and values.keys() <= {"team_id", "environment", "format"}
            and _TEAM.fullmatch(values.get("team_id", ""))
            and values.get("format", FORMATS[0]) in FORMATS
        ):
            whose = Whose(int(values["team_id"]), unquote(name), values.get("environment", ""))
            asked = Asked(whose, values.get("format"))
        if len(name) + len(query) <= _LONGEST:
            if len(self._asked) >= _MOST_REMEMBERED:
                self._asked.clear()
            self._asked[path, query] = asked
        return asked


def _headers(headers: Sequence[tuple[bytes, bytes]]) -> tuple[str, str] | None:
    """The key that is sent and If-None-Match ('' without); None where they are not there as they should be."""
    secret, has = None, ""
    for name, value in headers:
        if name == b"authorization":
            if secret is not None or not value.startswith(b"Bearer "):
                return None
            secret = value[7:].decode("latin-1")
        elif name == b"if-none-match":
            if has:
                return None
            has = value.decode("latin-1")
    return None if secret is None else (secret, has)
