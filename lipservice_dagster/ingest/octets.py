"""A JSON object in a line of octets, whose strings keep the octets that are not UTF-8. Pure.

Such octets stand in the strings as surrogates (PEP 383), and `octets` turns them back.
"""

from __future__ import annotations

import json
import re
from typing import Any

# A pair of surrogates; one without its other half; any other escape, so that the second of two backslashes starts none.
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|u([dD][89a-fA-F][\da-fA-F]{2})|.)", re.ASCII | re.DOTALL)


def json_object(line: bytes) -> dict[str, Any] | None:
    """The fields of a line that is a JSON object, else None. Every string in it can be given to `octets`."""
    try:
        fields = json.loads(json_text(line))
    except (ValueError, RecursionError):  # not JSON, nested too deep
        return None
    return fields if isinstance(fields, dict) else None


def json_text(data: bytes) -> str:
    """JSON as text, of whose strings `octets` makes what they were."""
    text = data.decode("utf-8", "surrogateescape")
    return _ESCAPE.sub(_half_pair, text) if "\\ud" in text or "\\uD" in text else text


def _half_pair(found: re.Match[str]) -> str:
    """A surrogate on its own as the three octets it would have in UTF-8, so that it is not taken for an octet."""
    if found[1] is None:
        return found[0]
    return chr(int(found[1], 16)).encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")


def octets(text: str) -> bytes:
    """The octets of a string of `json_object`."""
    return text.encode("utf-8", "surrogateescape")


def repaired(text: str) -> str:
    """A string of `json_object` as one that is UTF-8: U+FFFD stands where it is not."""
    return octets(text).decode("utf-8", "replace")
