"""Values of several words: templates that differ in how many words a value has become one.

What belongs here: the last step of mining, on the templates the earlier steps left. Those that begin alike are parted
by the words that a good share of them has, until what is left has either a word in all of them (it is constant) or in
few (it is part of a value). A part with enough members becomes one template, its common words with ``<*>`` between.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from lipservice_sampler.masks import VARIABLE
from lipservice_sampler.matching import LONGEST_SPAN, SPAN_CONSTANTS, constant_words

EVIDENCE_SPANS = 8
"""Templates that must agree around a value of several words."""

EVIDENCE_SEEN = 4
"""The same where one of them shows that a variable stands there."""

SHARE = 3
"""A word in at least one of so many templates parts them."""

_TYPE = re.compile(r"[\w.$]*(?:Exception|Error|Fault|Warning|Panic)[:,;.)\]]*\Z")


def _common(rows: Sequence[Sequence[str]]) -> list[str]:
    """Words that stand in all rows in one order (a common subsequence)."""
    common = list(rows[0])
    for row in rows[1:]:
        found, at = [], 0
        for word in common:
            try:
                at = row.index(word, at) + 1
            except ValueError:
                continue
            found.append(word)
        common = found
    return common


def _gaps(row: Sequence[str], common: Sequence[str]) -> list[Sequence[str]]:
    """The words of a row before, between and after the common ones (one more than these)."""
    gaps, at = [], 0
    for word in common:
        place = row.index(word, at)
        gaps.append(row[at:place])
        at = place + 1
    gaps.append(row[at:])
    return gaps


def _parts(rows: list[Sequence[str]]) -> Iterable[list[Sequence[str]]]:
    """The rows in groups in which a word is in all of them or in few."""
    stack = [rows]
    while stack:
        group = stack.pop()
        if len(group) < EVIDENCE_SEEN:
            continue
        counts = Counter(w for row in group for w in set(row))
        by = max(
            ((n, w) for w, n in counts.items() if n < len(group) and n * SHARE >= len(group) and n > 1),
            default=None,
        )
        types = {tuple(w for w in row if _TYPE.match(w)) for row in group}
        if len(types) > 1:
            by_type: dict[tuple[str, ...], list[Sequence[str]]] = {}
            for row in group:
                by_type.setdefault(tuple(w for w in row if _TYPE.match(w)), []).append(row)
            stack.extend(by_type.values())
        elif by is not None:
            stack.append([row for row in group if by[1] in row])
            stack.append([row for row in group if by[1] not in row])
        else:
            yield group


def _template(common: Sequence[str], filled: Sequence[bool]) -> str:
    out = []
    for i, full in enumerate(filled):
        if full:
            out.append(VARIABLE)
        if i < len(common):
            out.append(common[i])
    return " ".join(out)


def join_spans(texts: Iterable[str]) -> dict[str, str]:
    """For each template the one it becomes when a value may have several words."""
    texts = sorted(set(texts))
    joined = {t: t for t in texts}
    starts: dict[str, list[Sequence[str]]] = {}
    for text in texts:
        row = text.split(" ")
        if VARIABLE not in row[0]:
            starts.setdefault(row[0], []).append(row)
    for rows in starts.values():
        for group in _parts(rows):
            common = _common(group)
            if constant_words(common) < SPAN_CONSTANTS:
                continue
            by_places: dict[tuple[bool, ...], list[tuple[Sequence[str], list[Sequence[str]]]]] = {}
            for row in group:
                gaps = _gaps(row, common)
                by_places.setdefault(tuple(map(bool, gaps)), []).append((row, gaps))
            for places, members in by_places.items():
                if any(len(g) > LONGEST_SPAN for _, gaps in members for g in gaps) or len({len(r) for r, _ in members}) < 2:
                    continue
                seen = any(all(all(VARIABLE in w for w in g) for g in gaps) for _, gaps in members)
                if len(members) >= (EVIDENCE_SEEN if seen else EVIDENCE_SPANS):
                    template = _template(common, places)
                    joined.update((" ".join(row), template) for row, _ in members)
    return joined
