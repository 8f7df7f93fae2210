"""How templates are mined from the distinct masked messages of one service.

What belongs here: the algorithm, on text alone (standard library only, so that `lipservice templates` starts quickly).

Messages of one form (the same separators) make a table with a column a word. A table whose columns are constant, or
vary enough to be variables, is a template; any other is parted by the column with the fewest values, and each part is
looked at again. What comes out is joined across forms: by fields (one value may be one word here and four there), then
by runs of values that differ in length or unit only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from lipservice_dagster.core.templates_spans import join_spans
from lipservice_sampler.masks import VARIABLE
from lipservice_sampler.matching import Matcher, bare, collapse, fields, runs, unitless, words

EVIDENCE = 4
"""Distinct plain words a column must show before it is a variable: three states are three templates."""

EVIDENCE_STATES = 10
"""The same for words in capitals, which are mostly states of a finite set."""

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
KNOWN = 4

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
_SIZE = re.compile(r"<\*> (?:[KMGTPkmgtp]i?[Bb]|B)\b")
_BESIDE = re.compile(r"<\*>(?: <\*>)+")
_OTHER = re.compile(r"[^a-z]+")

Judge = Callable[[int, list[set[str]], int], bool]
"""Whether a column is a variable: its place, the distinct values of all columns, how many are constant words."""


def _valueish(word: str) -> bool:
    return VARIABLE in word or "0" in word


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


def _split(
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
                and not _keyed(j, fixed_texts)
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


def _keyed(column: int, fixed_texts: Sequence[str] | None) -> bool:
    """Whether the column is the value of a key, where what varies is a value; every field counts as one."""
    return fixed_texts is None or (column > 0 and _KEYED.search(fixed_texts[column - 1]) is not None)


def _columns(varying: Sequence[int], fixed_texts: Sequence[str]) -> int:
    """How many columns vary, those of one list counted once."""
    return sum(1 for i, j in enumerate(varying) if i == 0 or varying[i - 1] != j - 1 or "," not in fixed_texts[j - 1])


def _need(key: str, keys: int) -> int:
    if _OTHER.sub("", key.lower()) in TELLING:
        return EVIDENCE
    return EVIDENCE_RECORD if keys >= RECORD else EVIDENCE_KEYED


def _word_judge(seps: Sequence[str], names: set[str]) -> Judge:
    keyed = {j for j in range(len(seps) + 1) if _keyed(j, seps)}

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
        if j in keyed:
            need = _need(before, len(keyed))
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
        if all(map(_STATE.match, plain)) or _states(plain):
            need = max(need, EVIDENCE_STATES)
        return len(plain) >= need

    return judge


def _field_judge(fixed: Sequence[str]) -> Judge:
    keys = sum(1 for f in fixed if _KEYED.search(f))

    def judge(j: int, columns: list[set[str]], constant: int) -> bool:
        inner = {bare(v)[1] for v in columns[j]}
        if "" in inner or VARIABLE in inner:
            return True
        if _KEYED.search(fixed[j]):
            key = re.split(r"[^\w.-]+", fixed[j].rstrip("=\"': [{("))[-1]
            return len(inner) >= _need(key, keys)
        return len(inner) >= EVIDENCE

    return judge


def _join(texts: Iterable[str]) -> dict[str, str]:
    """For each template the one it becomes when fields may have any number of words."""
    forms: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    values: dict[str, tuple[str, ...]] = {}
    for text in sorted(set(texts)):
        values[text], fixed = fields(text)
        if values[text]:
            # A key's value may stand in quotes or not; any other field is known by its quotes or brackets.
            looks = tuple("" if _keyed(j + 1, fixed) else _ends(v) for j, v in enumerate(values[text]))
            forms.setdefault((fixed, looks), []).append(text)
    joined = {text: text for text in values}
    for (fixed, _), members in forms.items():
        if len(members) == 1:
            continue
        rows = [values[m] for m in members]
        for group, _ in _split(list(range(len(rows))), rows, _field_judge(fixed), None):
            if len(group) == 1:
                continue
            parts = []
            for column in zip(*(rows[r] for r in group), strict=True):
                ends = {_ends(v) for v in column if v}
                both = next(iter(ends)) if len(ends) == 1 else ""
                pad = " " if both and all(v[1:2].isspace() and v[-2:-1].isspace() for v in column) else ""
                varying = f"{both[:1]}{pad}{VARIABLE}{pad}{both[1:]}"
                parts.append(column[0] if len(set(column)) == 1 else varying)
            text = "".join(f + p for f, p in zip(fixed, [*parts, ""], strict=True))
            joined.update((members[r], text) for r in group)
    return joined


def _ends(field: str) -> str:
    opening, _, closing = bare(field)
    return opening + closing


def _alike(texts: set[str], other: str) -> str:
    """The text, where there is one; what the texts are without units, or as values without white space between, where
    they differ in these only; or the other.
    """
    if len(texts) > 1:
        texts = set(map(unitless, texts))
    if len(texts) > 1:
        texts = {_BESIDE.sub(VARIABLE, text) for text in texts}
    return next(iter(texts)) if len(texts) == 1 else other


def _even(texts: Iterable[str]) -> dict[str, str]:
    """For each template the one it becomes when runs of values may be of any length, and in any unit."""
    forms: dict[tuple[str, ...], list[str]] = {}
    values: dict[str, tuple[str, ...]] = {}
    for text in sorted(set(texts)):
        values[text], fixed = runs(text)
        forms.setdefault(fixed, []).append(text)
    evened = {text: text for text in values}
    for fixed, members in forms.items():
        if len(members) > 1:
            columns = zip(*(values[m] for m in members), strict=True)
            parts = [_alike(set(c), VARIABLE) for c in columns]
            text = "".join(f + p for f, p in zip(fixed, [*parts, ""], strict=True))
            evened.update((m, text) for m in members)
    return evened


def _states(words: Sequence[str]) -> bool:
    """Whether the words look like states: participles (started, running), or one says the opposite of another."""
    lower = {w.lower() for w in words}
    if sum(w.endswith(("ed", "ing")) for w in lower) * 2 > len(lower):
        return True
    return any(_OPPOSITE.sub("", w) in lower for w in lower if _OPPOSITE.search(w))


def _answers(words: Sequence[str]) -> bool:
    """Whether the words are yes and no."""
    return {w.lower() for w in words} == {"yes", "no"}


def _key_words(forms: Iterable[tuple[str, ...]], rows: dict[tuple[str, ...], list[tuple[str, ...]]]) -> set[str]:
    """Words that are keys with a variable value somewhere in the service."""
    found = set(NAMED)
    for seps in forms:
        for j, sep in enumerate(seps):
            if "=" in sep and _KEYED.search(sep):
                found.update(r[j].lower() for r in rows[seps] if VARIABLE in r[j + 1] and _LETTER.search(r[j]))
    return found


def _texts(rows: Sequence[tuple[str, ...]], written: Sequence[Sequence[str]]) -> list[set[str]]:
    """For each column of a template the texts its messages have there, with their runs of values as written.

    `rows` are the parts of the collapsed messages, and for each row `written` has its messages before.
    """
    columns: list[set[str]] = [set() for _ in rows[0]]
    for row, messages in zip(rows, written, strict=True):
        for message in messages:
            values = iter(runs(message)[0])
            for column, part in zip(columns, row, strict=True):
                first, *others = part.split(VARIABLE)
                column.add(first + "".join(next(values) + piece for piece in others))
    return columns


def _known(mined) -> dict[tuple[str, str], set[str]]:
    known: dict[tuple[str, str], set[str]] = {}
    for seps, parts, columns, _ in mined:
        for j, texts in enumerate(columns[1:], 1):
            before = parts[j - 1]
            if (
                parts[j] == VARIABLE
                and len(texts) >= KNOWN
                and _LETTER.search(before)
                and VARIABLE not in before
                and _OTHER.sub("", before.lower()) not in TELLING
                and not any(VARIABLE in t for t in texts)
                and not _states(list(texts))
                and not all(map(_STATE.match, texts))
            ):
                known.setdefault((before.lower(), seps[j - 1]), set()).update(t for t in texts if _LETTER.search(t))
    return known


def _with_known(text: str, known: dict[tuple[str, str], set[str]]) -> str:
    parts, seps = words(text)
    filled = [
        VARIABLE if j and w in known.get((parts[j - 1].lower(), seps[j - 1]), ()) else w for j, w in enumerate(parts)
    ]
    return filled[0] + "".join(s + w for s, w in zip(seps, filled[1:], strict=True))


def mine_texts(messages: Sequence[str]) -> list[str]:
    """The template of each masked message, in the order given; equal messages get equal templates."""
    written: dict[str, list[str]] = {}
    for message in sorted(set(messages)):
        written.setdefault(collapse(message), []).append(message)
    forms: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    members: dict[tuple[str, ...], list[list[str]]] = {}
    for short, same in written.items():
        parts, seps = words(short)
        forms.setdefault(seps, []).append(parts)
        members.setdefault(seps, []).append(same)
    names = _key_words(forms, forms)
    mined: list[tuple[tuple[str, ...], tuple[str, ...], list[set[str]], list[list[str]]]] = []
    for seps, rows in forms.items():
        judge = _word_judge(seps, names)
        for group, parts in _split(list(range(len(rows))), rows, judge, seps):
            alike = [members[seps][r] for r in group]
            mined.append((seps, parts, _texts([rows[r] for r in group], alike), alike))
    # Where a size comes in several units somewhere, the service writes sizes for people: the unit is part of the value.
    sized = any(
        len(texts) > 1 and any(map(_SIZE.search, texts)) and len({_SIZE.sub(VARIABLE, t) for t in texts}) == 1
        for _, _, columns, _ in mined
        for texts in columns
    )
    known = _known(mined)
    template_of: dict[str, str] = {}
    for seps, parts, columns, alike in mined:
        filled = list(map(_alike, columns, parts))
        if sized:
            filled = [_SIZE.sub(VARIABLE, text) for text in filled]
        text = filled[0] + "".join(s + w for s, w in zip(seps, filled[1:], strict=True))
        template_of.update((m, text) for ms in alike for m in ms)
    joined = _join(template_of.values())
    evened = _even(joined.values())
    spanned = join_spans(evened.values())
    spanned = {t: _with_known(s, known) for t, s in spanned.items()}
    final = {}
    matchers: dict[str, Matcher] = {}
    for message, text in template_of.items():
        before = joined[text]
        after = spanned[evened[before]]
        if after != before:
            # What the steps above joined must be found again by matching.
            matcher = matchers.get(after) or matchers.setdefault(after, Matcher([after]))
            if matcher.match(message) is None:
                after = before
        final[message] = after
    return [final[m] for m in messages]
