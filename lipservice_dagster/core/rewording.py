"""Which patterns are one statement, reworded or with another name in it, so that counts go on over both.

What belongs here: how alike two templates are, and which patterns of a service continue others. What is counted towards
which pattern stands in `series`.

How much of a template is a variable depends on how many values were seen: three tenants are three templates, five are
``tenant <*> synced``. So a "new" pattern may be an old one with a value it did not have, and a release that changes a
word makes one pattern vanish and another appear. Neither is news.

**Alike** are templates that differ in one place, in at most three words on either side, with at least twice as many
words in common, unless what differs tells (`telling_difference`): ``succeeded`` and ``failed`` are two statements. And
templates of the same words, however many: other punctuation is no news.

**Another name**: words in place of others, not the first (which mostly names the event) and no states or participles.
Such a pattern is no news from its first log on, whether the others go on beside it or ended long ago. Where three or
more of the window are the same but for one place, with none of these in it, that place holds names: it may be the first
(``alice signed in``), and a single word beside it is enough (``tenant acme``), but for errors.

**Another wording**: anything else that is alike, where one takes over from the other: the old ends within hours of when
the new begins (a release rolls out over some hours), or not long before.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lipservice_dagster.core.templates_evidence import opposites, outcome, state_word, success
from lipservice_sampler.masks import VARIABLE

Likeness = Literal["name", "wording"]

MOST_WORDS = 3
"""Most words that may differ, on either side."""

CONSTANTS = 2
"""Words in common that each of these takes."""

NAMES = 3
"""Patterns of the window that are the same but for one place, from which on it holds names."""

ROLLOUT_HOURS = 3
"""How long the old wording may go on beside the new."""

ERRORS = 2
"""The severity class of errors in `Life`."""

PAUSE_HOURS = 72
"""How long before the new begins the old may have ended: over a weekend, and no longer."""

_WORD = re.compile(r"[^\W\d_][\w'’]*")
_MOST_NAMES = 50  # as many tell what a place holds; the work must not grow with the square of thousands
_SPELT = re.compile(r"\w+")
_NEGATIONS = frozenset({"no", "not", "never", "none", "nothing", "without", "cannot"})


def likeness(a: str, b: str) -> Likeness | None:
    """How two templates of one service are alike, see the module; None where they are two statements."""
    x, y = a.split(), b.split()
    return _likeness(x, y)


def _likeness(x: Sequence[str], y: Sequence[str]) -> Likeness | None:
    if same_words(x, y):
        return "name"
    head, mine, theirs, tail = _difference(x, y)
    differing = max(len(mine), len(theirs))
    common = [word for word in (*head, *tail) if _WORD.search(word.replace(VARIABLE, ""))]
    if differing > MOST_WORDS or len(common) < CONSTANTS * differing:
        return None
    left, right = _words(mine), _words(theirs)
    if telling_difference(left, right):
        return None
    first = not any(_WORD.search(word.replace(VARIABLE, "")) for word in head)
    is_name = bool(mine and theirs) and not first and not any(map(state_word, left | right))
    return "name" if is_name else "wording"


def same_words(x: Sequence[str], y: Sequence[str]) -> bool:
    """Whether two templates, split at blanks, have the same words and numbers in the same order, and any at all."""
    words = _spelt(x)
    return bool(words) and words == _spelt(y)


def _spelt(tokens: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for token in tokens for word in _SPELT.findall(token.replace(VARIABLE, " ")))


def _difference(
    x: Sequence[str], y: Sequence[str]
) -> tuple[Sequence[str], Sequence[str], Sequence[str], Sequence[str]]:
    """What two templates have in common before the place where they differ, either's words there, and what after."""
    shortest = min(len(x), len(y))
    head = next((i for i in range(shortest) if x[i] != y[i]), shortest)
    tail = next((i for i in range(shortest - head) if x[-1 - i] != y[-1 - i]), shortest - head)
    return x[:head], x[head : len(x) - tail], y[head : len(y) - tail], x[len(x) - tail :]


def _hold_names(older: Sequence[Sequence[str]], newer: Sequence[str]) -> bool:
    """Whether ``newer`` differs from templates that differ from each other in the same place by a name alone."""
    values: list[set[str]] = []
    for other in older:
        head, _, theirs, tail = _difference(newer, other)
        if not any(_WORD.search(word.replace(VARIABLE, "")) for word in (*head, *tail)):
            return False
        values.append(_words(theirs))
    own = _words(_difference(older[0], newer)[2])
    if not own or not all(values) or any(map(state_word, own.union(*values))):
        return False
    return not any(telling_difference(own, value) for value in values)


def _words(tokens: Sequence[str]) -> set[str]:
    return {word for token in tokens for word in _WORD.findall(token.replace(VARIABLE, " "))}


def telling_difference(a: set[str], b: set[str]) -> bool:
    """Whether it matters which of these words a message has: bad outcomes, opposites, negations, a success or none."""
    only = {w.lower() for w in a} ^ {w.lower() for w in b}
    if any(outcome(w) for w in a ^ b) or any(w in _NEGATIONS or w.endswith("n't") for w in only) or opposites(only):
        return True
    return any(map(success, a)) != any(map(success, b))


@dataclass(frozen=True)
class Life:
    """When N patterns were there, each (N,): ``scope`` (one number a service and environment), ``severity`` (one a
    severity class, `ERRORS` for errors), ``first`` and ``last`` hour counted from the window's first, ``in_window`` and
    ``today`` whether there are logs."""

    scope: np.ndarray
    severity: np.ndarray
    first: np.ndarray
    last: np.ndarray
    in_window: np.ndarray
    today: np.ndarray


def continued(templates: Sequence[str], life: Life) -> np.ndarray:
    """(N,): for each pattern the least index among those that are one statement with it, its own where it is alone.

    Only patterns of one scope and one severity class are. At least one of them is new today, or began where another
    ended.
    """
    group = np.arange(len(templates))

    def root(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = int(group[i])
        return i

    places = life.scope.astype(np.int64) * (int(life.severity.max(initial=0)) + 1) + life.severity
    order = np.argsort(places, kind="stable")
    cuts = np.flatnonzero(np.diff(places[order])) + 1
    for members in np.split(order, cuts):
        # What has been there since the window's first hours neither came new nor took over.
        newer = members[life.today[members] & (~life.in_window[members] | (life.first[members] > 0))]
        older = members[life.in_window[members]]
        if not len(newer) or not len(older):
            continue
        of_errors = bool(life.severity[members[0]] == ERRORS)
        for a, b, how in _alike(templates, older, newer, of_errors):
            if _goes_on(life, a, b, how):
                one, other = sorted((root(a), root(b)))
                group[other] = one
    return np.array([root(i) for i in range(len(group))], dtype=np.int64)


def _goes_on(life: Life, a: int, b: int, how: Likeness) -> bool:
    """Whether ``b`` is what ``a`` was."""
    if how == "name" and not life.in_window[b]:
        return True
    pause = int(life.first[b] - life.last[a])
    return -ROLLOUT_HOURS <= pause <= PAUSE_HOURS


def _alike(
    templates: Sequence[str], older: np.ndarray, newer: np.ndarray, of_errors: bool
) -> Iterator[tuple[int, int, Likeness]]:
    """The pairs (older, newer) that are alike. What two of them share before and after the place is looked up, as are
    equal words, so the work grows with the words of the templates and not with their pairs."""
    split = {int(i): templates[int(i)].split() for i in (*older, *newer)}

    def places(i: int) -> list[Hashable]:
        return [*_places(split[i]), _spelt(split[i])]

    by_place: dict[Hashable, list[int]] = {}
    for b in newer.tolist():
        for place in places(b):
            by_place.setdefault(place, []).append(b)
    same_but_there: dict[Hashable, list[int]] = {}
    for a in older.tolist():
        met: dict[int, None] = {}
        for place in places(a):
            found = by_place.get(place, [])
            met |= dict.fromkeys(b for b in found if b != a)
            if found:
                same_but_there.setdefault(place, []).append(a)
        for b in met:
            how = _likeness(split[a], split[b])
            if how is not None:
                yield a, b, how
    if of_errors:
        return
    for place, others in same_but_there.items():
        for b in by_place[place]:
            known = [a for a in others[:_MOST_NAMES] if a != b]
            if len(known) >= NAMES and _hold_names([split[a] for a in known], split[b]):
                yield from ((a, b, "name") for a in known)


def _places(words: Sequence[str]) -> Iterator[tuple[int, int]]:
    """What stands before and after each place of at most `MOST_WORDS` words, hashed."""
    before, after = [0], [0]
    for word in words:
        before.append(hash((before[-1], word)))
    for word in reversed(words):
        after.append(hash((after[-1], word)))
    n = len(words)
    for i in range(n + 1):
        for k in range(min(MOST_WORDS, n - i) + 1):
            yield before[i], after[n - i - k]
