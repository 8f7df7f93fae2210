"""Text as everything else sees it: repaired, cut, named by a hash.

What belongs here: what happens to a message before the masks, and the names of messages and templates. The same repair
is compiled to SQL in `lipservice_sampler.clickhouse`; the two must give the same text.
"""

from __future__ import annotations

import hashlib
import re

MAX_CHARS = 8192
"""Characters of a message that are read; what follows is cut off before the masks."""

REPLACEMENT = "\ufffd"
"""Stands for a run of bytes that are not UTF-8."""

NUL_SIGN = "\u2400"
"""Stands for NUL, which PostgreSQL refuses in text and which the masks use as a mark of their own."""

_INVALID_RUN = re.compile("[\ud800-\udfff\ufffd]+")


def repair(raw: bytes | str) -> str:
    """The message as valid text of at most `MAX_CHARS` characters, without NUL.

    Each run of invalid UTF-8 (in a ``str``: of lone surrogates) becomes one U+FFFD, and runs of U+FFFD become one, as
    ClickHouse's ``toValidUTF8`` followed by a collapse gives it. NUL becomes ``␀`` (U+2400).
    """
    text = raw if isinstance(raw, str) else raw.decode("utf-8", "replace")
    if text.isascii():
        return text.replace("\0", NUL_SIGN)[:MAX_CHARS] if "\0" in text else text[:MAX_CHARS]
    return _INVALID_RUN.sub(REPLACEMENT, text).replace("\0", NUL_SIGN)[:MAX_CHARS]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def message_id(message: str) -> str:
    """The name of a masked message: the first 16 hex digits of the SHA-256 of its UTF-8 text."""
    return _hash(message)


def signature(service: str, template: str) -> str:
    """The name of a template within a service: the first 16 hex digits of SHA-256 of service, NUL, template."""
    return _hash(f"{service}\0{template}")
