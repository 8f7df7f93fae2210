"""Which template a masked message belongs to, and templates as regular expressions.

What belongs here: how a masked message falls into parts, the `Matcher` (used for the window, the backtest and at the
edge), and the export of a template as a pattern over raw messages.

A masked message is cut in three ways, from strict to lenient. `words`: at white space and punctuation. `fields`: the
values of ``key=value`` pairs, quoted texts and bracketed lists stand out, however many words they have. `collapse`:
runs of values count as one. Two messages of one template agree in what stands between the parts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from heapq import merge

from .masks import VARIABLE

Parts = tuple[tuple[str, ...], tuple[str, ...]]
"""Parts of a message that may vary, and the fixed texts between them (and, for fields, around them)."""

_SEPARATORS = re.compile(
    r"((?:\\(?=\")|[\s,;=()\[\]{}\"'|#:，。：；、！？（）「」『』【】《》]|\.\.+|[.!?](?=\s|$)|<(?!\*>)|(?<!<\*)>)+)"
)
_UNIT = (
    r"(?: (?:[munµ]?s|secs?|seconds?|mins?|minutes?|h|hrs?|hours?|days?|weeks?|months?|years?"
    r"|bytes?|[KMGTPkmgtp]?i?[Bb]|[KMGTP]bit|[KMG]bps)\b)?"
)
_RUN = re.compile(rf"<?<\*>{_UNIT}(?:(?:[\s,;|]*|:)<\*>{_UNIT})*")
_VALUE = re.compile(rf"<\*>{_UNIT}")
_FIELDS = re.compile(
    r"""
    (?<=[\w\]"]=)(?:"(?:[^"\\]|\\.)*"|'[^']*'
        |(?:<\*>|[^\s,;()\[\]{}"'=<>|])*(?:\{[^{}]*\}|\([^()]*\)|\[[^\[\]]*\])?)
    | (?<=":)"(?:[^"\\]|\\.)*"(?!\s*:) | (?<=":\ )"(?:[^"\\]|\\.)*"(?!\s*:)
    | (?<=":)\[[^\[\]{}]*\] | (?<=":\ )\[[^\[\]{}]*\]
    | (?<=[\s(\[,])"(?:[^"\\]|\\.)*"(?!\s*:) | (?<=[\s(\[,])'[^']*'(?!\s*:)
    | (?:(?<=\s)|^)\([^()]*\) | (?:(?<=[\s:])|^)\[[^\[\]]*\] | (?<=\bSet)\([^()]*\) | (?<=\bList)\([^()]*\)
    | (?<=:\ )[\w.-]+(?:,\ ?[\w.-]+)+(?=\s|$)
    """,
    re.X,
)
_LIST = re.compile(r"(?<=: )[\w.-]+(?:, ?[\w.-]+)+(?=\s|$)")
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")
_PIECES = re.compile(r"(<\*>(?:[ ,;|]*<\*>)*|0+| )")
_TOKENS = re.compile(r"\w+|\W")
_KEY = re.compile(r"([\w.-]+)\"?\s*[=:]\s*\Z")
_VALUED = re.compile(r"(?:=|\"\s*:)\s*\Z")
_OTHER = re.compile(r"[^a-z]+")
_SPACE = "[ \\t-\\r]"
_ANY = "[\\s\\S]*?"
_ESCAPE = "\\x1b\\[[0-9;?]*[A-Za-z]"
# What the masks drop: how the frames of a stack trace begin, lines of Python's code, and a Go frame.
_FRAME = "(?:at |File |from |#[0-9]|\\.\\.\\. )"
_CODE = "(?:    [^\\n]*\\n)*"
_GO_FRAME = "[^ \\t-\\r\\x1b][^\\n]*\\n\\t[^ \\n]*:[0-9]"


MESSAGES = frozenset(
    [
        *("action", "cmd", "command", "event", "eventname", "eventtype", "kind", "level", "log", "lvl", "message"),
        *("msg", "op", "operation", "outcome", "result", "severity", "state", "status", "type"),
    ]
)
"""Keys (lower case, letters only) whose value says what happened: it is a message of its own."""

LONGEST_SPAN = 6
"""Words a variable may span."""

SPAN_CONSTANTS = 3
"""Constant words a template must have for that, lest it match what merely begins or ends alike; two if it does both."""


def _constant(word: str) -> bool:
    return VARIABLE not in word and any(map(str.isalpha, word))


def spannable(ws: Sequence[str]) -> int:
    """How many of a template's words are constant, or 0 where they are too few for variables of several words."""
    constants = sum(map(_constant, ws))
    both = constants >= SPAN_CONSTANTS or (len(ws) > 2 and _constant(ws[0]) and _constant(ws[-1]))
    return constants if both and constants < len(ws) else 0


def words(masked: str) -> Parts:
    """The words of a masked message and the separators between them (one fewer; words may be empty)."""
    parts = _SEPARATORS.split(masked)
    return tuple(parts[::2]), tuple(parts[1::2])


def fields(masked: str) -> Parts:
    """The fields of a masked message, with their quotes and brackets, and the texts around them (one more)."""
    values, fixed, last = [], [], 0
    for found in _FIELDS.finditer(masked):
        fixed.append(masked[last : found.start()])
        values.append(found.group())
        last = found.end()
    fixed.append(masked[last:])
    return tuple(values), tuple(fixed)


def bare(field: str) -> tuple[str, str, str]:
    """A field's opening quote or bracket, content and closing quote or bracket; the first and last may be empty."""
    if len(field) >= 2 and (field[0] + field[-1]) in ('""', "''", "()", "[]", "{}"):
        return field[0], field[1:-1], field[-1]
    return "", field, ""


def key_name(key: str) -> str:
    """A key in lower case, its letters only."""
    return _OTHER.sub("", key.lower())


def collapse(masked: str) -> str:
    """The masked message with each run of ``<*>`` made one ``<*>``, units of time and size after a value taken into it.

    In a run, ``<*>`` are next to each other or parted by white space, comma, semicolon, bar or a colon. What is the
    same then is one template at several lengths or in several units.
    """
    return _RUN.sub(VARIABLE, masked)


def unitless(masked: str) -> str:
    """The masked message without the units of time and size after its values."""
    return _VALUE.sub(VARIABLE, masked)


def runs(masked: str) -> Parts:
    """The runs of values of a masked message and the texts around them (one more); see `collapse`."""
    spans = [m.span() for m in _RUN.finditer(masked)]
    ends = [0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), len(masked)]
    return tuple(masked[a:b] for a, b in spans), tuple(masked[a:b] for a, b in zip(ends, starts, strict=True))


_Placement = tuple[tuple[int, ...], dict[tuple[str, ...], str]]
"""Which parts of templates are constant, and by those constants the template."""


class _Form:
    """Templates with the same fixed texts, by which of their parts are constant."""

    FEW = 8
    """Placements that are tried one after the other."""

    def __init__(self, by_places: dict[tuple[int, ...], dict[tuple[str, ...], str]], parts: int) -> None:
        # Most constants first, then the leftmost: the form breaks ties, not the order of arrival.
        self._placements: list[_Placement] = sorted(by_places.items(), key=lambda item: (-len(item[0]), item[0]))
        self._fits: list[tuple[int, dict[str, int]]] = []
        """For each part the placements, as bits, that may fit: with any word there, and with one they know."""
        if len(by_places) > self.FEW:
            free = [0] * parts
            known: list[dict[str, int]] = [{} for _ in range(parts)]
            for bit, (places, by_constants) in enumerate(self._placements):
                for i in set(range(parts)).difference(places):
                    free[i] |= 1 << bit
                for constants in by_constants:
                    for i, word in zip(places, constants, strict=True):
                        known[i][word] = known[i].get(word, 0) | 1 << bit
            self._fits = [(f, {w: bits | f for w, bits in k.items()}) for f, k in zip(free, known, strict=True)]

    def find(self, parts: tuple[str, ...]) -> str | None:
        for places, by_constants in self._fitting(parts) if self._fits else self._placements:
            found = by_constants.get(tuple([parts[i] for i in places]))
            if found is not None:
                return found
        return None

    def _fitting(self, parts: tuple[str, ...]) -> Iterable[_Placement]:
        left = -1
        for part, (free, known) in zip(parts, self._fits, strict=True):
            left &= known.get(part, free)
        while left:
            lowest = left & -left
            yield self._placements[lowest.bit_length() - 1]
            left ^= lowest


class _Index:
    """Templates by their fixed texts, then by which of their parts are constant, then by those constants."""

    def __init__(self, cut: Callable[[str], Parts]) -> None:
        self._cut = cut
        self._forms: dict[tuple[str, ...], _Form] = {}

    def fill(self, texts: Iterable[tuple[str, str]]) -> None:
        """Take (text, template) pairs; of two that look the same the first stays."""
        forms: dict[tuple[str, ...], dict[tuple[int, ...], dict[tuple[str, ...], str]]] = {}
        counts: dict[tuple[str, ...], int] = {}
        for text, template in texts:
            parts, fixed = self._cut(text)
            if not parts:
                continue
            places = tuple(i for i, part in enumerate(parts) if part != VARIABLE)
            constants = tuple(parts[i] for i in places)
            counts[fixed] = len(parts)
            forms.setdefault(fixed, {}).setdefault(places, {}).setdefault(constants, template)
        self._forms = {fixed: _Form(by_places, counts[fixed]) for fixed, by_places in forms.items()}

    def find(self, masked: str) -> str | None:
        parts, fixed = self._cut(masked)
        form = self._forms.get(fixed)
        return form.find(parts) if form is not None else None


def _loose(masked: str) -> Parts:
    """`words`, with each field as one word without its quotes or brackets; values alone are ``<*>``.

    A message in quotes is read by its own words.
    """
    values, around = fields(masked)
    parts: list[str] = []
    fixed: list[str] = []
    for i, text in enumerate(around):
        ws, seps = words(text)
        parts += ws
        fixed += seps
        if i < len(values):
            opening, inner, _ = bare(values[i])
            if VARIABLE in inner and not inner.strip("<*> ,;|\"'"):
                inner = VARIABLE
            key = _KEY.search(text) if opening == '"' else None
            ws, seps = words(inner) if key is not None and key_name(key[1]) in MESSAGES else ((inner,), ())
            parts += ws
            # A key's value may stand in quotes or not; any other field is known by its quotes or brackets.
            look = "field" if _VALUED.search(text) else f"{opening}field"
            fixed += (look, *seps, "field")
    return tuple(parts), tuple(fixed)


class _Spans:
    """Templates whose variables may span several words, by the constant word that the fewest of them have."""

    def __init__(self, templates: Iterable[str]) -> None:
        entries = []
        for template in templates:
            ws = template.split(" ")
            constants = spannable(ws)
            if constants:
                entries.append((-constants, template, ws))
        counts = Counter(w for _, _, ws in entries for w in set(ws))
        self._by_word: dict[str, list[tuple[int, str, list[str]]]] = {}
        for entry in sorted(entries):
            rarest = min((w for w in entry[2] if VARIABLE not in w), key=lambda w: (counts[w], w))
            self._by_word.setdefault(rarest, []).append(entry)

    def find(self, masked: str) -> str | None:
        ws = masked.split(" ")
        present = set(ws)
        entries = merge(*(self._by_word[w] for w in present if w in self._by_word))
        for _, template, pattern in entries:
            # One end is the message's own; where neither is constant, the masks' own variable helps.
            at = -1 if VARIABLE in pattern[0] and VARIABLE not in pattern[-1] else 0
            if (
                pattern[at] == ws[at]
                and all(VARIABLE in p or p in present for p in pattern)
                and self._spans(pattern, ws)
            ):
                return template
        return None

    def _spans(self, pattern: list[str], ws: list[str]) -> bool:
        places = {0}
        for p in pattern:
            if VARIABLE not in p:
                places = {i + 1 for i in places if i < len(ws) and ws[i] == p}
                continue
            head, tail = p[: p.index(VARIABLE)], p[p.rindex(VARIABLE) + len(VARIABLE) :]
            places = {
                end
                for i in places
                if i < len(ws) and ws[i].startswith(head)
                for end in range(i + 1, min(i + LONGEST_SPAN, len(ws)) + 1)
                if ws[end - 1].endswith(tail)
            }
            if not places:
                return False
        return len(ws) in places


class Matcher:
    """Finds the template of a masked message among those given; the most specific wins.

    The strict reading comes first (`words`, where ``<*>`` stands for one word), then `fields`, then both on the message
    with its runs collapsed, then with a list after a colon read as one value, and last with variables of several words.
    The work for a message hardly grows with the number of templates: those of its form are found by their constants,
    those with variables of several words by the rarest of these. Messages seen before cost a look-up.
    """

    KNOWN = 200_000
    """Messages remembered before the memory is emptied, unless said otherwise."""

    def __init__(self, templates: Iterable[str], remember: int = KNOWN) -> None:
        ordered = sorted(set(templates))
        self._remember = remember
        self._exact = {t: t for t in ordered}
        self._short = {collapse(t): t for t in reversed(ordered)}
        self._words, self._fields, self._short_words = _Index(words), _Index(_loose), _Index(words)
        self._words.fill((t, t) for t in ordered)
        self._fields.fill((t, t) for t in ordered)
        self._short_words.fill((collapse(t), t) for t in ordered)
        self._spans = _Spans(ordered)
        self._known: dict[str, str | None] = {}

    def match(self, masked: str) -> str | None:
        """The template of a masked message, or None where no template fits."""
        try:
            return self._known[masked]
        except KeyError:
            pass
        found = self._find(masked)
        if len(self._known) >= self._remember:
            self._known.clear()
        self._known[masked] = found
        return found

    def match_many(self, masked: Iterable[str]) -> list[str | None]:
        """`match` of each masked message, in order."""
        return [self.match(m) for m in masked]

    def _find(self, masked: str) -> str | None:
        if masked in self._exact:
            return masked
        found = self._words.find(masked) or self._fields.find(masked)
        if found is None:
            short = collapse(masked)
            found = self._short.get(short) or self._short_words.find(short)
            if found is None and short != masked:
                found = self._fields.find(short)
            if found is None and (listed := _LIST.sub(VARIABLE, short)) != short:
                found = self._short_words.find(listed)
            if found is None:
                found = self._spans.find(masked)
        return found


_TRACES = ("Traceback", "goroutine", "Caused by", "Suppressed")
"""What tells that text follows the frames of a stack trace."""


def template_regex(template: str) -> str:
    """An anchored regular expression, in the subset of RE2, Rust and Python, that matches repaired raw messages.

    A variable matches any text, a ``0`` any digits, a space any white space; colours (terminal escapes) may stand
    around words and numbers, the frames of a stack trace at the end, and where a trace with text after it has white
    space. The pattern says nothing about what the masks hold for a value, so it can match a message of another template
    too. Written for engines that do not backtrack (RE2, Rust): in Python use `Matcher`.
    """
    gap = [_SPACE, _ESCAPE]
    if any(sign in template for sign in _TRACES):
        gap.append(f"{_FRAME}[^\\n]*\\n" + (_CODE if "Traceback" in template else ""))
    if "goroutine" in template:
        gap.append(f"{_GO_FRAME}[^\\n]*\\n")
    out = [f"{_SPACE}*"]
    for i, piece in enumerate(_PIECES.split(template)):
        if i % 2 == 0:
            out += [_SPECIAL.sub(r"\\\g<0>", token) for token in _TOKENS.findall(piece)]
        elif piece[0] == "<":
            out.append(_ANY)
        elif piece[0] == "0":
            out.append("[0-9]+")
        else:
            out.append(f"{_SPACE}(?:{'|'.join(gap)})*")
    text = f"(?:{_ESCAPE})*".join([*out, ""])
    return f"^{text}(?:{_SPACE}*\\n{_SPACE}*(?:{_FRAME}|{_GO_FRAME}){_ANY})?(?:{_SPACE}|{_ESCAPE})*$"
