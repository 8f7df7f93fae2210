"""The words of templates, and the label that a family's members make of theirs.

What belongs here: text only. Which templates are one family is decided in `lipservice_dagster.core.clustering`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

LABEL_WORDS = 8
"""Most words of a label."""

LABEL_CHARACTERS = 80
"""Most characters of a label; what is cut off is told by an ellipsis."""

_SHARES = (0.5, 0.25, 0.0)
_LEAST_WORDS, _LEAST_LETTERS = 2, 10

_VARIABLE = re.compile(r"<\*>")
_LETTERS = re.compile(r"[^\W\d_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_TOKEN = re.compile(r"<\*>|[^\W\d_](?:[\w.'-]*\w)?")

# They join words and say nothing alone; "not", "no" and "without" do.
_JOINING = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be been by for from has have in into is it its of on or per than that the then this to via"
        " was were will with",
    )
)


def words(template: str) -> list[str]:
    """The words of a template in its order, lower-cased: ``getUser_by.id <*>`` gives get, user, by, id."""
    return [
        part.lower()
        for run in _LETTERS.findall(_VARIABLE.sub(" ", template))
        for part in _CAMEL.split(run)
        if len(part) > 1 or not part.isascii()
    ]


def label(templates: Sequence[str], bags: Sequence[Sequence[str]]) -> str:
    """What to call the family of these templates, the first of which has the most logs; never empty, of at most
    `LABEL_CHARACTERS` characters.

    ``bags`` are their `words`. The label is made of the words that more than half of the members share, as they are
    written in the member that is richest in them. Where that says little ("uid user"), words that a quarter share
    count too, and then all. Words that only join others are left out where what they joined is a variable or has been
    left out.
    """
    if not bags[0]:
        return _cut(" ".join(templates[0].split())) or "(empty message)"
    found = Counter(word for bag in bags for word in set(bag))
    written: list[str] = []
    for share in _SHARES:
        wanted = {word for word, n in found.items() if n > share * len(bags)}
        telling = wanted - _JOINING
        richness = [sum(found[w] for w in telling.intersection(bag)) for bag in bags]
        richest = max(range(len(bags)), key=lambda i: (richness[i], -i))
        written = _written(templates[richest], wanted) or written
        if len(written) >= _LEAST_WORDS and sum(map(len, written)) >= _LEAST_LETTERS:
            break
    return _cut(" ".join(written or list(dict.fromkeys(bags[0]))[:LABEL_WORDS]))


def _cut(text: str) -> str:
    return text if len(text) <= LABEL_CHARACTERS else text[: LABEL_CHARACTERS - 1].rstrip() + "…"


def _written(template: str, wanted: set[str]) -> list[str]:
    """The words of a template as they are written, once each, of which every part is wanted.

    A joining word stays where the next word of the template does.
    """
    kept: list[str] = []
    follows = False
    for token in reversed(_TOKEN.findall(template)):
        parts = words(token)
        joins = token.lower() in _JOINING
        follows = bool(parts) and wanted.issuperset(parts) and (follows or not joins)
        if follows:
            kept.append(token)
    once = {token.lower(): token for token in kept}
    ordered = list(dict.fromkeys(token.lower() for token in reversed(kept)))
    while ordered and ordered[0] in _JOINING:
        del ordered[0]
    cut = ordered[:LABEL_WORDS]
    while cut and cut[-1] in _JOINING:
        cut.pop()
    return [once[low] for low in cut]
