"""Templates: mined from a service's masked messages, and named.

What belongs here: the entries the assets and the command call. The algorithm is in `templates_mining`, what a template
looks like with the digits its messages share in `templates_written`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lipservice_dagster.core.templates_mining import mine_texts
from lipservice_dagster.core.templates_written import mined_lines
from lipservice_sampler.masks import fold
from lipservice_sampler.text import repair, signature

if TYPE_CHECKING:
    import numpy as np

TEMPLATES_VERSION = 3
"""Raised whenever the same masked messages can give other templates; part of the assets' code version."""


@dataclass(frozen=True)
class Mined:
    """The templates of one service, sorted, and for each input message the index of its template (int64)."""

    templates: tuple[str, ...]
    assignment: np.ndarray


def mine(messages: Sequence[str], logs: Sequence[int] | None = None) -> Mined:
    """Templates of the distinct masked messages of one service.

    `messages` are masked (see `lipservice_sampler.masks.mask`). `logs`, their counts, are checked for length and not
    otherwise read: what is seen often is no better evidence for a variable than what is seen once. The result depends
    on the set of messages alone, not on their order. Raises `ValueError` when the lengths differ.
    """
    import numpy as np  # not at the top: the command line starts without it

    if logs is not None and len(logs) != len(messages):
        raise ValueError(f"{len(messages)} messages but {len(logs)} counts: give one count a message, or none")
    texts = mine_texts(messages)
    templates = tuple(sorted(set(texts)))
    place = {t: i for i, t in enumerate(templates)}
    return Mined(templates, np.fromiter((place[t] for t in texts), dtype=np.int64, count=len(texts)))


def templates_of(lines: Iterable[str]) -> list[tuple[str, str]]:
    """For each raw message, in order, its signature (service ``''``) and its template as written.

    The signature names the mined template. In the template shown, digits within a name read as the messages have them,
    where all have the same (``ssh2``, not ``ssh0``); where they differ, the word is a variable.
    """
    texts = [repair(line) for line in lines]
    named = mined_lines([t.encode() for t in texts], [fold(t).encode() for t in texts])
    pairs = {folded: (signature("", mined), written) for folded, (mined, written) in named.items()}
    return [pairs[fold(t).encode()] for t in texts]
