"""What it takes before a part of messages is a variable.

What belongs here: the thresholds, the judges that apply them to a column of words or of fields, and how a table of
messages is parted until each part is one template.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from lipservice_sampler.decision import error_like
from lipservice_sampler.masks import VARIABLE
from lipservice_sampler.matching import MESSAGES, bare, key_name

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

EVIDENCE_TOLD = 32
"""The same for the value, one word, of a key whose value says what happened: a service knows many events."""

EVIDENCE_SHORT = 1
"""Added for each constant word that a message has fewer than three of."""

EVIDENCE_FREE = 16
"""Distinct values in every column that varies, from which on they are free text, however few words are constant."""

RECORD = 3

DETAILS = frozenset({"cause", "err", "error", "exception", "reason"})
"""Keys (lower case, letters only) whose value says why; what happened stands elsewhere, so it can be free text."""

TELLING = DETAILS | MESSAGES
"""Keys whose value says what happened or why; but for the details it is judged like a message of its own."""

NAMED = frozenset({"user", "username", "host", "hostname"})
"""Words that a name follows, in any log."""

_PAIRS = tuple(
    (a, b)
    for first, second in (
        *(("up", "down"), ("on", "off"), ("in", "out"), ("online", "offline"), ("won", "lost")),
        *(("open opened", "close closed shut"), ("opening", "closing"), ("start started", "stop stopped end ended")),
        *(("starting", "stopping"), ("begin", "end"), ("start", "finish"), ("pause", "resume"), ("login", "logout")),
        *(("allow accept permit grant approve", "deny reject refuse drop block"), ("grant", "revoke")),
        *(("allowed accepted granted approved", "denied rejected refused dropped blocked"), ("lock", "unlock")),
        *(("success succeed succeeded", "failure fail failed error"), ("pass passed", "fail failed")),
        *(("ok", "fail failed failure error bad ko nok"), ("good", "bad"), ("hit", "miss"), ("add", "remove delete")),
        *(("create", "delete destroy"), ("insert", "delete"), ("join", "leave"), ("enter", "exit leave")),
        *(("acquire", "release"), ("attach", "detach"), ("mount", "umount"), ("push", "pull pop"), ("get", "set put")),
        *(("enable", "disable"), ("alive", "dead"), ("valid", "expired"), ("idle", "busy"), ("full", "empty")),
        *(("read", "write"), ("send", "receive recv"), ("sent", "received"), ("upload", "download")),
        *(("high", "low"), ("increase", "decrease"), ("increment", "decrement"), ("commit", "rollback abort")),
        *(("primary master leader", "secondary replica slave follower standby"), ("connect", "disconnect")),
    )
    for a in first.split()
    for b in second.split()
)
"""Opposite states, general English."""

_SUCCESSES = frozenset(
    re.findall(
        r"\w+",
        "success succeed succeeded successful successfully ok okay pass passed complete completed done finished",
    )
)

_OUTCOMES = frozenset(
    re.findall(
        r"\w+",
        "abandoned blocked broken bad cancelled canceled corrupt corrupted critical dead degraded denied died down"
        " dropped err exceeded exhausted expired failover fault faulty forbidden full halted illegal incomplete"
        " insufficient invalid killed late lost malformed mismatch missed missing ng nok offline overflow overloaded"
        " rejected refused reset restarted restarting retried retry retrying rollback severe skipped slow stale stuck"
        " suspended terminating throttled timeout timeouts unauthorized unavailable unhealthy unknown unreachable"
        " unresponsive violated warn warning wrong",
    )
)
"""Words that say something went wrong, beside those that read like an error wherever they stand (`error_like`)."""

_LETTER = re.compile(r"[^\W\d_]")
_STATE = re.compile(r"[A-Z][A-Z_]+\Z")
_TYPE = re.compile(r"[\w.$]*(?:Exception|Error|Fault|Warning|Panic)\Z")
_KEYED = re.compile(r"=\s*[\"'(\[{<]?\Z|\"\s*:\s*\\?[\"\[]?\Z")
_QUOTE = re.compile(r'(?<!\\)"')
_PACKAGE = re.compile(r"\w(?:\.[^\W\d]\w*){3}")
_DOTTED = re.compile(r"\w\.[^\W\d]")
_OPPOSITE = re.compile(r"\A(?:un|in|im|dis|de|non|not)-?(?=[a-z]{3})|(?<=[a-z])not(?=[a-z])")

_PARTICIPLES = ("ed", "ing")

Judge = Callable[[int, list[set[str]], int], bool]
"""Whether a column is a variable: its place, the distinct values of all columns, how many are constant words."""


def _valueish(word: str) -> bool:
    return VARIABLE in word or "0" in word


def opposites(words: Iterable[str]) -> bool:
    """Whether two of the words are opposites: by a prefix (un-, dis-) or in `_PAIRS`."""
    lower = {w.lower() for w in words}
    return any(_OPPOSITE.sub("", w) in lower for w in lower if _OPPOSITE.search(w)) or any(
        a in lower and b in lower for a, b in _PAIRS
    )


def conditions(words: Iterable[str]) -> bool:
    """Whether the words are mostly participles, or two are opposites."""
    lower = {w.lower() for w in words}
    return sum(w.endswith(_PARTICIPLES) for w in lower) * 2 > len(lower) or opposites(lower)


def state_word(word: str) -> bool:
    """Whether one word by itself looks like a state or an event rather than a name: a participle, or in capitals."""
    return word.lower().endswith(_PARTICIPLES) or _STATE.match(word) is not None


def outcome(word: str) -> bool:
    """Whether the word says that something went wrong, or is the type of an exception."""
    return word.lower() in _OUTCOMES or error_like(word) or _TYPE.match(word) is not None


def success(word: str) -> bool:
    """Whether the word says that something went well."""
    return word.lower() in _SUCCESSES


def states(words: Sequence[str]) -> bool:
    """Whether the words look like states: all in capitals, or conditions."""
    return all(map(_STATE.match, words)) or conditions(words)


def telling(key: str) -> bool:
    """Whether the value of the key says what happened."""
    return key_name(key) in TELLING


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


def _need(key: str, keys: int, values: Iterable[str]) -> int:
    if telling(key):
        if all(map(_PACKAGE.search, values)):
            return EVIDENCE
        return EVIDENCE_FREE if key_name(key) in DETAILS else EVIDENCE_TOLD
    return EVIDENCE_RECORD if keys >= RECORD else EVIDENCE_KEYED


def _quoted(valued: set[int], seps: Sequence[str]) -> dict[int, range]:
    """For each word of a key's value in double quotes the words of that value, where they are several."""
    found = {}
    for start in sorted(valued):
        if seps[start - 1].endswith('"'):
            end = next((j + 1 for j in range(start, len(seps)) if _QUOTE.search(seps[j])), len(seps) + 1)
            if end - start > 1:
                found.update(dict.fromkeys(range(start, end), range(start, end)))
    return found


def _tells(keys: set[str]) -> bool:
    """Whether a column is a key whose value is a message of its own."""
    return all(key_name(key) in MESSAGES for key in keys) and len(keys) == 1


def word_judge(seps: Sequence[str], names: set[str]) -> Judge:
    """The judge of a table of words with these separators; `names` are words that a value follows."""
    valued = {j for j in range(len(seps) + 1) if keyed(j, seps)}
    quoted = _quoted(valued, seps)

    def judge(j: int, columns: list[set[str]], constant: int) -> bool:
        values = columns[j]
        if "" in values:
            return False
        plain = [v for v in values if not _valueish(v)]
        before = min(columns[j - 1]) if j and len(columns[j - 1]) == 1 else ""
        place = quoted.get(j)
        told = place is not None and _tells(columns[place[0] - 1])
        if place is not None and told:
            # A message within the message: its own words give the evidence, not the keys around it.
            first = j == place[0]
            varying = [i for i in place if len(columns[i]) > 1]
            constant = sum(1 for i in place if len(columns[i]) == 1 and _LETTER.search(min(columns[i])) is not None)
            if plain and constant < _columns(varying, seps):
                return False
        else:
            # The first word: in letters, with none in letters before it, at most after one value (a time, an address).
            ahead = [column for column in columns[:j] if column != {""}]
            first = len(ahead) <= 1 and not any(_LETTER.search(w) for column in ahead for w in column)
        if any(VARIABLE in v for v in values):
            if j in valued and not told and telling(before):
                return not plain or len(plain) >= _need(before, len(valued), plain)
            return not first or not plain or len(plain) >= EVIDENCE
        if len(plain) < len(values):
            return len(values) >= (EVIDENCE if first else EVIDENCE_KEYED)
        if all(map(_TYPE.match, plain)):
            return False
        if j in valued and not told:
            need = _need(before, len(valued), plain)
            if need < EVIDENCE and not conditions(plain):
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
        key = re.split(r"[^\w.-]+", fixed[j].rstrip("=\"': [{("))[-1] if _KEYED.search(fixed[j]) else ""
        if telling(key):
            said = {v for v in inner if _LETTER.search(v)}
            # However many messages there are within messages: it is the words inside that decide.
            inside = key_name(key) in MESSAGES and any(" " in v for v in said)
            decided = inside or all(map(_TYPE.match, said))
            return not said or (not decided and len(said) >= _need(key, keys, said))
        if "" in inner or VARIABLE in inner:
            return True
        need = _need(key, keys, inner) if key else EVIDENCE
        # States in capitals stand in front of the message ([ERROR]); after a key they can be codes of anything.
        ahead = not "".join(fixed[: j + 1]) and all(map(str.isalpha, inner)) and states(list(inner))
        if ahead or conditions(inner):
            need = max(need, EVIDENCE_STATES)
        return len(inner) >= need

    return judge
