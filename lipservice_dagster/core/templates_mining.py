"""How templates are mined from the distinct masked messages of one service.

What belongs here: the steps, on text alone (standard library only, so that `lipservice templates` starts quickly); what
it takes to be a variable is in `templates_evidence`, values of several words in `templates_spans`.

Messages of one form (the same separators, runs of values counted as one) make a table with a column a word. A table
whose columns are constant, or vary enough to be variables, is a template; any other is parted by the column with the
fewest values, and each part is looked at again. What comes out is joined across forms: by fields (one value may be one
word here and four there), by runs of values that differ in length or unit only, by values of several words. Last, words
known as values elsewhere in the service are values here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lipservice_dagster.core.templates_evidence import (
    EVIDENCE,
    NAMED,
    field_judge,
    keyed,
    split,
    states,
    telling,
    word_judge,
)
from lipservice_dagster.core.templates_spans import join_spans
from lipservice_sampler.masks import VARIABLE
from lipservice_sampler.matching import Matcher, bare, collapse, fields, runs, unitless, words

_LETTER = re.compile(r"[^\W\d_]")
_SIZE = re.compile(r"<\*> (?:[KMGTPkmgtp]i?[Bb]|B)\b")
_BESIDE = re.compile(r"<\*>(?: <\*>)+")


@dataclass(frozen=True)
class _Table:
    """Messages of one form that are one template."""

    separators: tuple[str, ...]
    parts: tuple[str, ...]
    """Its words, ``<*>`` where they vary."""
    texts: Sequence[set[str]]
    """For each part what the messages have there, with their runs of values as written."""
    messages: Sequence[str]


def _put(parts: Sequence[str], separators: Sequence[str]) -> str:
    return parts[0] + "".join(s + w for s, w in zip(separators, parts[1:], strict=True))


def _texts(rows: Sequence[tuple[str, ...]], written: Sequence[Sequence[str]]) -> list[set[str]]:
    """For each column the texts that messages have there; `written` has the messages of each collapsed row."""
    columns: list[set[str]] = [set() for _ in rows[0]]
    for row, messages in zip(rows, written, strict=True):
        for message in messages:
            values = iter(runs(message)[0])
            for column, part in zip(columns, row, strict=True):
                if VARIABLE in part:
                    first, *others = part.split(VARIABLE)
                    part = first + "".join(next(values) + piece for piece in others)
                column.add(part)
    return columns


def _tables(messages: Sequence[str]) -> list[_Table]:
    """The tables that messages fall into, form by form."""
    written: dict[str, list[str]] = {}
    for message in sorted(set(messages)):
        written.setdefault(collapse(message), []).append(message)
    forms: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    members: dict[tuple[str, ...], list[list[str]]] = {}
    for short, same in written.items():
        parts, seps = words(short)
        forms.setdefault(seps, []).append(parts)
        members.setdefault(seps, []).append(same)
    names = _key_words(forms)
    tables = []
    for seps, rows in forms.items():
        for group, parts in split(list(range(len(rows))), rows, word_judge(seps, names), seps):
            same = [m for r in group for m in members[seps][r]]
            texts = _texts([rows[r] for r in group], [members[seps][r] for r in group]) if len(same) > 1 else []
            tables.append(_Table(seps, parts, texts, same))
    return tables


def _key_words(forms: dict[tuple[str, ...], list[tuple[str, ...]]]) -> set[str]:
    """Words that are keys with a variable value somewhere in the service."""
    found = set(NAMED)
    for seps, rows in forms.items():
        for j, sep in enumerate(seps):
            if "=" in sep and keyed(j + 1, seps):
                found.update(r[j].lower() for r in rows if VARIABLE in r[j + 1] and _LETTER.search(r[j]))
    return found


def _alike(texts: set[str], other: str) -> str:
    """The text, where there is one; what they are without units, or with values next to each other as one, where they
    differ in no more; or the other.
    """
    if len(texts) > 1:
        texts = set(map(unitless, texts))
    if len(texts) > 1:
        texts = {_BESIDE.sub(VARIABLE, text) for text in texts}
    return next(iter(texts)) if len(texts) == 1 else other


def _named(tables: Sequence[_Table]) -> dict[str, str]:
    """For each message the template its table gives."""
    # Where a size comes in several units somewhere, the service writes sizes for people: the unit is part of the value.
    sized = any(
        len(texts) > 1 and any(map(_SIZE.search, texts)) and len({_SIZE.sub(VARIABLE, t) for t in texts}) == 1
        for table in tables
        for texts in table.texts
    )
    named = {}
    for table in tables:
        text = _put(list(map(_alike, table.texts, table.parts)), table.separators) if table.texts else table.messages[0]
        named.update(dict.fromkeys(table.messages, _SIZE.sub(VARIABLE, text) if sized else text))
    return named


def _join(texts: Iterable[str]) -> dict[str, str]:
    """For each template the one it becomes when fields may have any number of words."""
    forms: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    values: dict[str, tuple[str, ...]] = {}
    for text in sorted(set(texts)):
        values[text], fixed = fields(text)
        if values[text]:
            # A key's value may stand in quotes or not; any other field is known by its quotes or brackets.
            looks = tuple("" if keyed(j + 1, fixed) else _ends(v) for j, v in enumerate(values[text]))
            forms.setdefault((fixed, looks), []).append(text)
    joined = {text: text for text in values}
    for (fixed, _), members in forms.items():
        if len(members) == 1:
            continue
        rows = [values[m] for m in members]
        for group, _ in split(list(range(len(rows))), rows, field_judge(fixed), None):
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


Known = dict[tuple[str, str], set[str]]
"""Values by the word before them (lower case) and what separates them."""


def _known(tables: Sequence[_Table]) -> Known:
    """Words that a column's evidence shows to be values."""
    known: Known = {}
    for table in tables:
        for j, texts in enumerate(table.texts[1:], 1):
            before = table.parts[j - 1]
            if (
                table.parts[j] == VARIABLE
                and len(texts) >= EVIDENCE
                and _LETTER.search(before)
                and VARIABLE not in before
                and not telling(before)
                and not any(VARIABLE in text for text in texts)
                and not states(list(texts))
            ):
                values = known.setdefault((before.lower(), table.separators[j - 1]), set())
                values.update(filter(_LETTER.search, texts))
    return known


def _with_known(text: str, known: Known) -> str:
    """The template with ``<*>`` for each word that is known as a value after the word before it."""
    parts, seps = words(text)
    before = zip(map(str.lower, parts), seps, strict=False)
    return _put(
        [parts[0], *(VARIABLE if w in known.get(b, ()) else w for b, w in zip(before, parts[1:], strict=True))], seps
    )


def mine_texts(messages: Sequence[str]) -> list[str]:
    """The template of each masked message, in the order given; equal messages get equal templates."""
    tables = _tables(messages)
    named = _named(tables)
    known = _known(tables)
    joined = _join(named.values())
    evened = _even(joined.values())
    spanned = join_spans(evened.values())
    last = {text: _with_known(text, known) for text in set(spanned.values())}
    final = {}
    matchers: dict[str, Matcher] = {}
    for message, text in named.items():
        final[message] = text
        # What the last steps join has to be found again by matching.
        for joint in dict.fromkeys((last[spanned[evened[joined[text]]]], joined[text])):
            if joint == text:
                break
            if joint not in matchers:
                matchers[joint] = Matcher([joint])
            if matchers[joint].match(message) is not None:
                final[message] = joint
                break
    # Where several templates fit a message, it carries the one that matching gives; most templates stay as they are.
    matcher = Matcher(final.values())
    found = {m: matcher.match(m) or text for m, text in final.items()}
    return [found[m] for m in messages]
