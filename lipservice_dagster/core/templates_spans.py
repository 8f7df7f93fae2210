"""Values of several words: templates that differ in how many words a value has become one.

What belongs here: one of the last steps of mining, on the templates the earlier steps left. Those that begin alike are
parted by the words that a good share of them has, until what is left has either a word in all of them (it is constant)
or in few (it is part of a value). A part with enough members becomes one template: its common words, with ``<*>``
between.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from lipservice_dagster.core.templates_evidence import EVIDENCE, EVIDENCE_STATES, states
from lipservice_sampler.masks import VARIABLE
from lipservice_sampler.matching import LONGEST_SPAN, collapse, spannable

EVIDENCE_SPANS = 8
"""Templates that must agree around a value of several words."""

EVIDENCE_SEEN = 4
"""The same where one of them shows that a variable stands there."""

_BARE = re.compile(r"([\"'(\[{]*).*?([\"')\]},;:.!?]*)\Z")
_VALUE = re.compile(r"[\W\d_]*<\*>[\W\d_]*\Z")
_WORD = re.compile(r"[^\W\d_][\w'-]*\Z")
_TYPE = re.compile(r"[\w.$]*(?:Exception|Error|Fault|Warning|Panic)[:,;.)\]]*\Z")


def _common(rows: Sequence[Sequence[str]]) -> list[str]:
    """Constant words that stand in all rows in one order (a common subsequence)."""
    common = [word for word in rows[0] if not _VALUE.match(word)]
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


def _by_type(group: list[Sequence[str]]) -> list[list[Sequence[str]]]:
    """The rows by the types of exceptions in them: these decide."""
    parts: dict[tuple[str, ...], list[Sequence[str]]] = {}
    for row in group:
        parts.setdefault(tuple(w for w in row if _TYPE.match(w)), []).append(row)
    return list(parts.values())


def _by_word(group: list[Sequence[str]]) -> list[list[Sequence[str]]]:
    """The rows parted by a word that is no value: in a column of one word a row with few of them, or a frequent one."""
    common = _common(group)
    values: set[str] = set()
    for column in zip(*(_gaps(row, common) for row in group), strict=True):
        if all(len(gap) == 1 for gap in column):
            words = {gap[0] for gap in column}
            plain = [w for w in words if VARIABLE not in w]
            if len(words) > 1 and len(plain) == len(words) and len(plain) < _need(plain):
                return [[row for row, gap in zip(group, column, strict=True) if gap[0] == w] for w in sorted(words)]
            values |= words
    counts = Counter(w for row in group for w in set(row) if not _VALUE.match(w) and w not in values)
    share = min(max(len(group) / 3, EVIDENCE_SPANS), len(group) / 2)
    _, by = max(((n, w) for w, n in counts.items() if share <= n < len(group)), default=(0, ""))
    return [[row for row in group if by in row], [row for row in group if by not in row]] if by else [group]


def _need(words: Sequence[str]) -> int:
    return EVIDENCE_STATES if states(words) else EVIDENCE


def _parts(rows: list[Sequence[str]]) -> Iterable[list[Sequence[str]]]:
    """The rows in groups in which a word is in all of them or in few."""
    stack = [rows]
    while stack:
        group = stack.pop()
        if len(group) < EVIDENCE_SEEN:
            continue
        parts = _by_type(group)
        if len(parts) == 1:
            parts = _by_word(group)
        if len(parts) == 1:
            yield group
        else:
            stack.extend(parts)


def _core(column: Sequence[Sequence[str]]) -> tuple[Sequence[str], list[Sequence[str]], Sequence[str]]:
    """What a column's gaps begin and end with in common, and between them what is left: at least a word of each."""
    shortest = min(map(len, column))
    first = column[0]
    head = 0
    while head < shortest - 1 and all(gap[head] == first[head] for gap in column):
        head += 1
    tail = 0
    while tail < shortest - head - 1 and all(gap[-1 - tail] == first[-1 - tail] for gap in column):
        tail += 1
    return first[:head], [gap[head : len(gap) - tail] for gap in column], first[len(first) - tail :]


def _variable(column: Sequence[Sequence[str]]) -> str:
    """``<*>`` with the punctuation that all of a column have around them."""
    heads, tails = ({found.group(k) for gap in column if (found := _BARE.match(" ".join(gap)))} for k in (1, 2))
    return (heads.pop() if len(heads) == 1 else "") + VARIABLE + (tails.pop() if len(tails) == 1 else "")


def _short(gap: Sequence[str]) -> Sequence[str]:
    return collapse(" ".join(gap)).split(" ")


def _valued(before: str, column: Sequence[Sequence[str]]) -> bool:
    """Whether what stands in a column after the word `before` are values, not what happened.

    A value of several words follows a word of letters (``customer Anna Maria``) or an exception's type. After a colon,
    a dash, a class or another value stands a message of its own, and one with a variable in it is one too.
    """
    longest = max(map(len, column))
    if longest == 1:
        return True
    mixed = sum(0 < sum(VARIABLE in w for w in gap) < len(gap) for gap in map(_short, column))
    after = (_WORD.match(before) or _TYPE.match(before)) is not None
    return after and longest <= LONGEST_SPAN and mixed * 4 <= len(column)


def _joined(group: list[Sequence[str]]) -> Iterable[tuple[list[Sequence[str]], str]]:
    """The rows of a group that become one template, with it."""
    common = _common(group)
    by_places: dict[tuple[bool, ...], list[tuple[Sequence[str], list[Sequence[str]]]]] = {}
    for row in group:
        gaps = _gaps(row, common)
        by_places.setdefault(tuple(map(bool, gaps)), []).append((row, gaps))
    for members in by_places.values():
        if len({len(row) for row, _ in members}) < 2:
            continue
        seen = any(all(VARIABLE in w for gap in gaps for w in _short(gap) if w) for _, gaps in members)
        if len(members) < (EVIDENCE_SEEN if seen else EVIDENCE_SPANS):
            continue
        template: list[str] = []
        for i, column in enumerate(zip(*(gaps for _, gaps in members), strict=True)):
            if all(gap == column[0] for gap in column):
                template += column[0]
            else:
                head, core, tail = _core(column)
                template += head
                if not _valued(template[-1] if template else "", core):
                    break
                template += [_variable(core), *tail]
            template += common[i : i + 1]
        else:
            if spannable(template):
                yield [row for row, _ in members], " ".join(template)


def join_spans(texts: Iterable[str]) -> dict[str, str]:
    """For each template the one it becomes when a value may have several words."""
    joined = {text: text for text in sorted(set(texts))}
    starts: dict[str, list[Sequence[str]]] = {}
    for text in joined:
        row = text.split(" ")
        starts.setdefault(row[0], []).append(row)
    for rows in starts.values():
        for group in _parts(rows):
            for members, template in _joined(group):
                joined.update((" ".join(row), template) for row in members)
    return joined
