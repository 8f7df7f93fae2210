"""What the API serves for a service: a policy, its overlay and whether it is live; checked at the door, kept on disk.

A document that is not valid is refused whole: a policy read wrongly could drop what it should keep.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .masks import MASK_VERSION
from .overlay import Overlay

LIVE, SHADOW, DEFAULT = "live", "shadow", "default"
KEEP_ALL: Mapping[str, Any] = {"global_rate": 1.0}
REFRESH_SECONDS = 30.0
_LEAST_REFRESH, _MOST_REFRESH = 1.0, 3600.0


class ServedError(ValueError):
    """A document is no policy for this service; the message says what is wrong."""


@dataclass(frozen=True)
class Served:
    """A checked document: ``mode`` is live, shadow or default, ``policy`` keeps all where the service has none.

    ``document`` is what was served, ``etag`` its name for the next question ('' where it had none).
    """

    mode: str
    version: str
    policy: Mapping[str, Any]
    overlay: Mapping[str, Any]
    refresh_seconds: float
    document: Mapping[str, Any]
    etag: str = ""


NOTHING = Served(DEFAULT, "0", KEEP_ALL, {}, REFRESH_SECONDS, {})
"""Before anything was served: all is kept."""


def read(document: Any, scope: Mapping[str, Any], etag: str = "") -> Served:
    """The document as served, checked.

    ``scope`` names what was asked for (``team_id``, ``service``, ``environment``); what the document says of them must
    be the same. Raises ServedError.
    """
    if not isinstance(document, Mapping):
        raise ServedError("the answer is no JSON object")
    for name, wanted in scope.items():
        if document.get(name) != wanted:
            raise ServedError(f"{name} is {document.get(name)!r}, asked for was {wanted!r}")
    mode, version = document.get("mode"), document.get("version")
    if mode not in (LIVE, SHADOW, DEFAULT):
        raise ServedError(f"mode is {mode!r}; it must be live, shadow or default")
    if not isinstance(version, str | int):
        raise ServedError(f"version is {version!r}; it must be text")
    policy = document.get("policy")
    if policy is None and mode != DEFAULT:
        raise ServedError(f"mode is {mode}, and there is no policy")
    if policy is not None:
        _check(policy)
    # Where there is a default, everything is kept, whatever stands beside it.
    policy = KEEP_ALL if mode == DEFAULT or policy is None else policy
    overlay = document.get("overlay") or {}
    try:
        Overlay(overlay)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise ServedError(f"overlay is not valid: {e!r}") from e
    refresh = document.get("refresh_seconds", REFRESH_SECONDS)
    if not _number(refresh):
        raise ServedError(f"refresh_seconds is {refresh!r}; it must be a number")
    seconds = min(max(float(refresh), _LEAST_REFRESH), _MOST_REFRESH)
    return Served(mode, str(version), policy, overlay, seconds, document, etag)


def _check(policy: Any) -> None:
    if not isinstance(policy, Mapping):
        raise ServedError("policy is no JSON object")
    if policy.get("schema_version", 1) != 1:
        raise ServedError(f"policy.schema_version is {policy['schema_version']!r}; this version reads 1")
    if policy.get("mask_version", MASK_VERSION) != MASK_VERSION:
        raise ServedError(
            f"policy.mask_version is {policy['mask_version']!r}, and the masks here are {MASK_VERSION}: its patterns"
            " would not be found; bring lipservice-sampler to the version of the server"
        )
    _rate("policy.global_rate", policy.get("global_rate"))
    severities, patterns, unknown = (
        policy.get("severity_rates", {}),
        policy.get("pattern_rates", []),
        policy.get("unknown", {}),
    )
    if not isinstance(severities, Mapping) or not isinstance(patterns, list) or not isinstance(unknown, Mapping):
        raise ServedError("policy.severity_rates, pattern_rates or unknown is of the wrong kind")
    for severity, rate in severities.items():
        _rate(f"policy.severity_rates.{severity}", rate)
    for i, entry in enumerate(patterns):
        if not isinstance(entry, Mapping):
            raise ServedError(f"policy.pattern_rates[{i}] is no JSON object")
        if not isinstance(entry.get("signature"), str) or not isinstance(entry.get("template"), str):
            raise ServedError(f"policy.pattern_rates[{i}] has no signature or no template")
        _rate(f"policy.pattern_rates[{i}].rate", entry.get("rate"))
    first = unknown.get("first_per_hour", 0)
    if not isinstance(first, int) or isinstance(first, bool) or first < 0:
        raise ServedError(f"policy.unknown.first_per_hour is {first!r}; it must be a count")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _rate(name: str, value: Any) -> None:
    if not _number(value) or not 0.0 < value <= 1.0:
        raise ServedError(f"{name} is {value!r}; a rate lies above 0 and is 1 at most")


def load(path: Path, scope: Mapping[str, Any]) -> Served | None:
    """The policy kept on disk; None where there is none. Raises ServedError where the file is not whole."""
    try:
        kept = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as e:
        raise ServedError(f"{path} cannot be read: {e}") from e
    if not isinstance(kept, Mapping) or not isinstance(kept.get("etag"), str):
        raise ServedError(f"{path} is not what was written there")
    return read(kept.get("served"), scope, kept["etag"])


def save(path: Path, served: Served) -> None:
    """Keep the policy on disk: written aside and renamed, so that who reads finds the old one or the new. Raises
    OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"etag": served.etag, "served": served.document}, file)
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise
