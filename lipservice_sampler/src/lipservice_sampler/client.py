"""One HTTP request to the API, with bounds on time and size.

Straight from `http.client`: no redirect is followed, so that the key goes to no other host, and nothing of it is shared
between processes.
"""

from __future__ import annotations

import email.utils
import encodings.idna  # noqa: F401 - sockets import it when first used: a fork meanwhile would leave the child half of it
import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

MOST_BYTES = 64 * 1024 * 1024
"""A longer answer is refused."""


class UnreachableError(Exception):
    """There was no answer; the message says why."""


@dataclass(frozen=True)
class Answer:
    """Status, headers (names in lower case) and body of an answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after(self) -> float:
        """Seconds to wait before asking again, 0 where the answer says nothing."""
        text = self.headers.get("retry-after", "").strip()
        if text.isdigit():
            return float(text)
        try:
            return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
        except (TypeError, ValueError):
            return 0.0


def base(url: str) -> SplitResult:
    """The parts of a base URL. Raises ValueError where it is none of http or https."""
    parts = urlsplit(url.rstrip("/"))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no base URL: write http://host:port or https://host")
    parts.port  # noqa: B018 - raises ValueError where it is no number
    return parts


def ask(
    url: SplitResult,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str],
    body: bytes | None = None,
    timeout: float,
) -> Answer:
    """The answer to one request; ``timeout`` is in seconds, for each wait and, twice, for the whole body.

    Raises UnreachableError.
    """
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=timeout)
    try:
        until = time.monotonic() + 2 * timeout
        connection.request(method, url.path + path, body=body, headers=dict(headers))
        answer = connection.getresponse()
        parts: list[bytes] = []
        size = 0
        while chunk := answer.read1(1 << 16):
            parts.append(chunk)
            size += len(chunk)
            if size > MOST_BYTES:
                raise UnreachableError(f"{method} {path}: the answer is longer than {MOST_BYTES} bytes")
            if time.monotonic() > until:
                raise UnreachableError(f"{method} {path}: the answer took longer than {2 * timeout:g} s")
        expected = answer.headers.get("content-length", "")
        if expected.isdigit() and int(expected) != size and answer.status != 304:
            raise UnreachableError(f"{method} {path}: the answer was cut after {size} of {expected} bytes")
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, b"".join(parts))
    except (OSError, http.client.HTTPException, ValueError) as e:
        raise UnreachableError(f"{method} {path}: {type(e).__name__} {e}".rstrip()) from e
    finally:
        connection.close()
