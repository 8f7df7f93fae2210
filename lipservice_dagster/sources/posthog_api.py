"""PostHog's HTTP API of one project: requests that are repeated, paced, bounded in time and explained when refused."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import urllib3

from lipservice_dagster.sources.base import LogSourceError, LogSourceRefusedError

HOUR = 3600.0
_READ_BYTES = 1 << 16

# PostHog's own words and ClickHouse's for a question that is too much; what stands before them times out too.
_TOO_LARGE = re.compile(
    r"max(imum)? execution time|memory limit|execution time[^.]* too long|timeout exceeded: elapsed"
    r"|limit for (rows|bytes|result)|query size exceeded",
    re.I,
)
_PASSES = re.compile(r"simultaneous queries|too busy|at capacity", re.I)
_SCOPE = re.compile(r"scope[^'\"`:]*['\"`:]+\s*([a-z_]+:[a-z]+)")


class TooLargeError(LogSourceError):
    """PostHog gave a question up, over its time, memory or size; a smaller one may go."""


class HogQLRefusedError(LogSourceRefusedError):
    """PostHog does not take this HogQL: a function that is not permitted there, a column that it does not know."""


@dataclass(frozen=True)
class ApiLimits:
    """Bounds of the requests; see the settings of the same names."""

    timeout_seconds: float = 120.0
    retries: int = 5
    backoff_seconds: float = 1.0
    longest_wait_seconds: float = HOUR
    queries_per_hour: int = 110
    pages_per_hour: int = 1_000


Budget = Callable[[str, int], float]
"""Takes a request of what is named, of so many an hour: 0 where it may be made, else the seconds until one may be."""


class Api:
    """The API of a project. One for each project, as each has a key of its own; used from several threads."""

    def __init__(
        self,
        base: str,
        project: int,
        key: str,
        limits: ApiLimits,
        *,
        budget: Budget | None = None,
        say: Callable[[str], None] = lambda _: None,
    ):
        self.base, self.project, self.limits = base.rstrip("/"), project, limits
        self.host = self.base.partition("://")[2]
        self._key, self._budget, self._say = key, budget, say
        self._pool = urllib3.PoolManager(
            num_pools=1, retries=False, timeout=urllib3.Timeout(min(limits.timeout_seconds, 10), limits.timeout_seconds)
        )
        self.requests = 0
        self.server_time: datetime | None = None
        """What the last answer's Date said."""

    @property
    def name(self) -> str:
        """For messages."""
        return f"PostHog at {self.host}, project {self.project}"

    def hogql(self, query: str, *, patient: bool = True) -> list[list[Any]]:
        """The rows of a HogQL query.

        Raises HogQLRefusedError where PostHog does not take it, TooLargeError where it gives up or cuts the answer
        short, LogSourceError for the rest. Who is not ``patient`` is told at once where the hour's requests are made.
        """
        # Answers are cached over there by the query's text; a new one is wanted.
        body = {"query": {"kind": "HogQLQuery", "query": query}, "refresh": "force_blocking", "name": "lipservice"}
        answer = self.post("query/", body, "queries", self.limits.queries_per_hour, patient=patient)
        if not isinstance(answer.get("results"), list):
            raise LogSourceError(f"{self.name}: an answer to a HogQL query without results; is that PostHog?")
        if answer.get("hasMore"):
            raise TooLargeError(f"{self.name} cut the answer short at {len(answer['results']):,} rows")
        rows: list[list[Any]] = answer["results"]
        return rows

    def logs(self, what: str, query: dict[str, Any]) -> dict[str, Any]:
        """The answer of ``logs/<what>/``, such as query or count."""
        return self.post(f"logs/{what}/", {"query": query}, "pages", self.limits.pages_per_hour)

    def post(
        self, path: str, body: dict[str, Any], kind: str, per_hour: int, *, patient: bool = True
    ) -> dict[str, Any]:
        """POST to a path below the project; the answer, an object. Tries again where that may help."""
        trouble = ""
        for attempt in range(self.limits.retries + 1):
            self._take(kind, per_hour, patient)
            wait = min(self.limits.backoff_seconds * 2**attempt, 60.0)
            try:
                response, data = self._ask(path, body)
                self.requests += 1
                self.server_time = _date(response)
                if response.status < 300:
                    answer = json.loads(data)
                    if isinstance(answer, dict):
                        return answer
                    raise ValueError("not a JSON object")
            except urllib3.exceptions.NewConnectionError as error:
                trouble = f"no connection: {_reason(error)}"
            except urllib3.exceptions.TimeoutError:
                trouble = f"no answer within {self.limits.timeout_seconds:g} s"
            except (urllib3.exceptions.HTTPError, OSError) as error:
                trouble = f"the connection broke: {_reason(error)}"
            except ValueError as error:
                trouble = f"what came is no whole answer ({error})"
            else:
                trouble = f"{response.status} {self._detail(data)[1]}".strip()
                self._refuse(path, response, data)
                if response.status in (429, 503):
                    asked = _retry_after(response)
                    wait = max(wait, asked)
                    hasty = not patient and (response.status == 429 or asked > 0)
                    if hasty or wait > self.limits.longest_wait_seconds:
                        break
            if attempt < self.limits.retries:
                self._say(f"{self.name}: {trouble}; trying again in {wait:.1f} s")
                time.sleep(wait)
        advice = (
            "its limit of requests is used up: wait, or lower LIPSERVICE_POSTHOG_QUERIES_PER_HOUR and"
            " LIPSERVICE_POSTHOG_PAGES_PER_HOUR where others use the same limit"
            if trouble.startswith("429")
            else "is the address in LIPSERVICE_LOGS_DSN right, and can this machine reach it?"
        )
        # A gateway that went on giving up waiting may have waited for a question that is too large.
        kind_of = TooLargeError if trouble.startswith("504") and path == "query/" else LogSourceError
        raise kind_of(f"{self.name} did not answer after {attempt + 1} tries: {trouble[:500]}; {advice}")

    def _ask(self, path: str, body: dict[str, Any]) -> tuple[urllib3.BaseHTTPResponse, bytes]:
        """The answer and its octets; urllib3's time-out where they are not there in time, however slowly they come."""
        deadline = time.monotonic() + self.limits.timeout_seconds
        try:
            response = self._pool.request(
                "POST",
                f"{self.base}/api/projects/{self.project}/{path}",
                body=json.dumps(body).encode(),
                headers={"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"},
                redirect=False,
                preload_content=False,
            )
        except ValueError:  # whose text has the header in it, and so the key
            raise LogSourceRefusedError(
                f"{self.name} cannot be asked: no header of HTTP takes the key of project {self.project}; copy it again"
            ) from None
        # Time-outs of the connection are of silence only: what drips would be waited for without end.
        parts = []
        try:
            while part := response.read1(_READ_BYTES):
                parts.append(part)
                if time.monotonic() > deadline:
                    raise urllib3.exceptions.TimeoutError
        except BaseException:
            response.close()
            raise
        response.release_conn()
        return response, b"".join(parts)

    def _take(self, kind: str, per_hour: int, patient: bool) -> None:
        waited = 0.0
        while self._budget is not None and (wait := self._budget(f"{self.host}/{self.project}/{kind}", per_hour)) > 0:
            if not patient or waited + wait > 2 * self.limits.longest_wait_seconds:
                raise LogSourceError(
                    f"{self.name}: this hour's {per_hour:,} {kind} are made, the next may be in {wait:.0f} s"
                    f" (LIPSERVICE_POSTHOG_{kind.upper()}_PER_HOUR)"
                )
            self._say(f"{self.name}: this hour's {per_hour:,} {kind} are made; going on in {wait:.0f} s")
            time.sleep(wait)
            waited += wait

    def _refuse(self, path: str, response: urllib3.BaseHTTPResponse, data: bytes) -> None:
        """Raise what is told of an answer that another try would meet again; else return."""
        code, detail = self._detail(data)
        setting = f"LIPSERVICE_POSTHOG_API_KEY (or LIPSERVICE_POSTHOG_KEYS for project {self.project})"
        scope = "query:read" if path == "query/" else "logs:read"
        if response.status == 401:
            raise LogSourceRefusedError(
                f"{self.name} does not take the key: it has expired, was deleted or is mistyped, or is of another"
                f" region ({detail}). Make a personal API key with the scopes query:read and logs:read under Settings,"
                f" Personal API keys, and set {setting}"
            )
        if response.status == 403 and "scope" in detail.lower():
            found = _SCOPE.search(detail)
            raise LogSourceRefusedError(
                f"{self.name}: the key lacks the scope {found[1] if found else scope} ({detail}). Add it to the key"
                " under Settings, Personal API keys"
            )
        if response.status in (403, 404):
            raise LogSourceRefusedError(
                f"{self.name}: there is no such project, or the key's owner may not see it ({detail or code}). Its"
                " number stands in PostHog under Settings, Project; put it into LIPSERVICE_LOGS_DSN, and a key of"
                f" somebody who may into {setting}"
            )
        if 300 <= response.status < 400:
            place = str(response.headers.get("Location", "")).split("?")[0]
            raise LogSourceRefusedError(
                f"{self.name} sends on to {place or 'another place'}: put the address of PostHog itself into"
                " LIPSERVICE_LOGS_DSN; a key is not taken along"
            )
        if response.status == 400 or response.status >= 500:
            # What has no code is not PostHog's but of what stands before it; and of a page there is no smaller one.
            gave_up = bool(code and _TOO_LARGE.search(detail))
            if gave_up and path == "query/":
                raise TooLargeError(f"{self.name} gave a question up: {detail}")
            if gave_up or _PASSES.search(detail):
                return
            if response.status == 400 and path == "query/":
                raise HogQLRefusedError(f"{self.name} refused a question: {detail or code}")
        if response.status < 500 and response.status not in (408, 429):
            raise LogSourceRefusedError(f"{self.name} refused {path} with {response.status}: {detail or code}")

    def _detail(self, data: bytes) -> tuple[str, str]:
        """(code, detail) of an error's JSON, of another answer ("", its beginning); never with the key in it."""
        text = data.decode("utf-8", "replace").replace(self._key, "***")
        try:
            found = json.loads(text)
            return str(found.get("code") or ""), str(found.get("detail") or found.get("error") or "")[:1000]
        except (ValueError, AttributeError):
            return "", " ".join(re.sub(r"<[^>]*>", " ", text[:2000]).split())[:200]


def _date(response: urllib3.BaseHTTPResponse) -> datetime | None:
    try:
        return parsedate_to_datetime(str(response.headers.get("Date"))).astimezone(UTC)
    except (ValueError, TypeError):
        return None


def _retry_after(response: urllib3.BaseHTTPResponse) -> float:
    """Seconds that the answer asks to wait; 0 where it does not say."""
    value = str(response.headers.get("Retry-After", "")).strip()
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        return max((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0


def _reason(error: Exception) -> str:
    """What broke, without the pool's own words around it."""
    reason = getattr(error, "reason", None)
    return re.sub(r"^<[^>]*>: |HTTPS?Connection\([^)]*\): ", "", str(reason or error))[:300]
