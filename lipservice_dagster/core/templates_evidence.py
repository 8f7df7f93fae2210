"""What it takes before a part of messages is a variable.

What belongs here: the thresholds, the judges that apply them to a column of words or of fields, and how a table of
messages is parted until each part is one template.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from lipservice_sampler.masks import VARIABLE
from lipservice_sampler.matching import bare

EVIDENCE = 4
"""Distinct plain words a column must show before it is a variable: three states are three templates."""

EVIDENCE_STATES = 10
"""The same for words that look like states of a finite set: in capitals, participles, a word and its opposite."""

EVIDENCE_FIRST = 12
"""The same for the first word, which mostly names the event."""

EVIDENCE_KEYED = 3
"""The same for the value of a key, and for what follows a word that is a key elsewhere."""

EVIDENCE_RECORD = 2
"""The same for the value of a key in a record, that is, in a message with at least `RECORD` keys."""

EVIDENCE_SHORT = 1
"""Added for each constant word that a message has fewer than three of."""

EVIDENCE_FREE = 16
"""Distinct values in every column that varies, from which on they are free text, however few words are constant."""

RECORD = 3

TELLING = frozenset(
    [
        *("action", "cause", "cmd", "command", "err", "error", "event", "eventname", "eventtype", "exception", "kind"),
        *("level", "log", "lvl", "message", "msg", "op", "operation", "outcome", "reason", "result", "severity"),
        *("state", "status", "type"),
    ]
)
"""Keys (lower case, letters only) whose value says what happened: they are judged like plain words."""

NAMED = frozenset({"user", "username", "host", "hostname"})
"""Words that a name follows, in any log."""

_LETTER = re.compile(r"[^\W\d_]")
_STATE = re.compile(r"[A-Z][A-Z_]+\Z")
_TYPE = re.compile(r"[\w.$]*(?:Exception|Error|Fault|Warning|Panic)\Z")
_KEYED = re.compile(r"=\s*[\"'(\[{<]?\Z|\"\s*:\s*[\"\[]?\Z")
_DOTTED = re.compile(r"\w\.[^\W\d]")
_OPPOSITE = re.compile(r"\A(?:un|in|im|dis|de|non|not)-?(?=[a-z]{3})|(?<=[a-z])not(?=[a-z])")
_OTHER = re.compile(r"[^a-z]+")

Judge = Callable[[int, list[set[str]], int], bool]
"""Whether a column is a variable: its place, the distinct values of all columns, how many are constant words."""


def _valueish(word: str) -> bool:
    return VARIABLE in word or "0" in word


def states(words: Sequence[str]) -> bool:
    """Whether the words look like states: all in capitals, mostly participles, or one says the opposite of another."""
    lower = {w.lower() for w in words}
    return (
        all(map(_STATE.match, words))
        or sum(w.endswith(("ed", "ing")) for w in lower) * 2 > len(lower)
        or any(_OPPOSITE.sub("", w) in lower for w in lower if _OPPOSITE.search(w))
    )


def telling(key: str) -> bool:
    """Whether the value of the key says what happened."""
    return _OTHER.sub("", key.lower()) in TELLING


def _answers(words: Sequence[str]) -> bool:
    """Whether the words are yes and no."""
    return {w.lower() for w in words} == {"yes", "no"}


def _moving(columns: Sequence[int], group: Sequence[int], parts: Sequence[Sequence[str]]) -> set[int]:
    """Those of the columns in which some two rows differ that are equal in all others."""
    totals = {r: sum(map(hash, enumerate(parts[r]))) for r in group}
    found = set()
    for j in columns:
        rests: dict[int, int] = {}
        for r in group:
            rest = totals[r] - hash((j, parts[r][j]))
            if rests.setdefault(rest, r) != r:
                found.add(j)
                break
    return found


def split(
    rows: list[int], parts: Sequence[Sequence[str]], judge: Judge, fixed_texts: Sequence[str] | None
) -> Iterable[tuple[list[int], tuple[str, ...]]]:
    """The groups the rows fall into, each with its parts (``<*>`` where a column varies).

    With `fixed_texts` (those between the parts), a group needs as many constant words as it has columns that vary,
    where the columns of a list count as one; or two, before free text.
    """
    stack = [rows]
    while stack:
        group = stack.pop()
        if len(group) == 1:
            yield group, tuple(parts[group[0]])
            continue
        values = [set(c) for c in zip(*(parts[r] for r in group), strict=True)]
        varying = [j for j, v in enumerate(values) if len(v) > 1]
        constant = sum(1 for v in values if len(v) == 1 and _LETTER.search(next(iter(v))) is not None)
        plain = [j for j in varying if not any(map(_valueish, values[j]))]
        fixed = [j for j in varying if not judge(j, values, constant)]
        if not fixed and len(plain) > 1:
            # Words that never vary alone may be several events, not several variables: they need more evidence.
            doubtful = [
                j
                for j in plain
                if len(values[j]) < EVIDENCE * len(plain)
                and not keyed(j, fixed_texts)
                and not (fixed_texts and j and fixed_texts[j - 1] == ":")
            ]
            moving = _moving(doubtful, group, parts) if doubtful else set()
            fixed = [j for j in doubtful if j not in moving]
        free = constant >= 2 and bool(varying) and min(len(values[j]) for j in varying) >= EVIDENCE_FREE
        if not fixed and (fixed_texts is None or free or constant >= _columns(varying, fixed_texts)):
            yield group, tuple(VARIABLE if len(v) > 1 else next(iter(v)) for v in values)
            continue
        by = min(fixed or varying, key=lambda j: (len(set(map(_kind, values[j]))) == 1, len(values[j]), j))
        kind = _kind if len(set(map(_kind, values[by]))) > 1 else str
        by_value: dict[str, list[int]] = {}
        for r in group:
            by_value.setdefault(kind(parts[r][by]), []).append(r)
        stack.extend(by_value.values())


def _kind(word: str) -> str:
    """The word, or ``<*>`` where it holds one: values of several looks stay together."""
    return VARIABLE if VARIABLE in word else word


def keyed(column: int, fixed_texts: Sequence[str] | None) -> bool:
    """Whether the column is the value of a key, where what varies is a value; every field counts as one."""
    return fixed_texts is None or (column > 0 and _KEYED.search(fixed_texts[column - 1]) is not None)


def _columns(varying: Sequence[int], fixed_texts: Sequence[str]) -> int:
    """How many columns vary, those of one list counted once."""
    return sum(1 for i, j in enumerate(varying) if i == 0 or varying[i - 1] != j - 1 or "," not in fixed_texts[j - 1])


def _need(key: str, keys: int) -> int:
    if telling(key):
        return EVIDENCE
    return EVIDENCE_RECORD if keys >= RECORD else EVIDENCE_KEYED


def word_judge(seps: Sequence[str], names: set[str]) -> Judge:
    """The judge of a table of words with these separators; `names` are words that a value follows."""
    valued = {j for j in range(len(seps) + 1) if keyed(j, seps)}

    def judge(j: int, columns: list[set[str]], constant: int) -> bool:
        values = columns[j]
        if "" in values:
            return False
        plain = [v for v in values if not _valueish(v)]
        # The first word: in letters, with none in letters before it, at most after one value (a time, an address).
        ahead = [column for column in columns[:j] if column != {""}]
        first = len(ahead) <= 1 and not any(_LETTER.search(w) for column in ahead for w in column)
        if any(VARIABLE in v for v in values):
            return not first or not plain or len(plain) >= EVIDENCE
        if len(plain) < len(values):
            return len(values) >= (EVIDENCE if first else EVIDENCE_KEYED)
        if all(map(_TYPE.match, plain)):
            return False
        before = min(columns[j - 1]) if j and len(columns[j - 1]) == 1 else ""
        if j in valued:
            need = _need(before, len(valued))
            if need < EVIDENCE:
                return len(plain) >= need
        elif first:
            need = EVIDENCE if all(map(_DOTTED.search, plain)) else EVIDENCE_FIRST
        elif before.lower() in names and seps[j - 1].isspace():
            need = EVIDENCE_KEYED
        else:
            need = EVIDENCE + EVIDENCE_SHORT * max(0, 3 - constant)
        if _answers(plain):
            return True
        if states(plain):
            need = max(need, EVIDENCE_STATES)
        return len(plain) >= need

    return judge


def field_judge(fixed: Sequence[str]) -> Judge:
    """The judge of a table of fields with these texts around them."""
    keys = sum(1 for f in fixed if _KEYED.search(f))

    def judge(j: int, columns: list[set[str]], constant: int) -> bool:
        inner = {bare(v)[1] for v in columns[j]}
        if "" in inner or VARIABLE in inner:
            return True
        need = EVIDENCE
        # States stand where a key tells what happened, and in front of the message ([ERROR]).
        telltale = not "".join(fixed[: j + 1])
        if _KEYED.search(fixed[j]):
            key = re.split(r"[^\w.-]+", fixed[j].rstrip("=\"': [{("))[-1]
            need = _need(key, keys)
            telltale = telling(key)
        if telltale and all(map(str.isalpha, inner)) and states(list(inner)):
            need = EVIDENCE_STATES
        return len(inner) >= need

    return judge
