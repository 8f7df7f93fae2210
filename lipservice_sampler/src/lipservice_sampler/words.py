"""Masks word by word: what `masks.mask_folded` gives, at the speed an application's log calls need.

Most messages are new, most of their words are not: values differ, the words around them stay. Hardly any mask reaches
over a space, so a message is cut at spaces (and a word at double quotes), each part is masked once and remembered, and
only parts not seen before go through the expressions. What does reach over a space is masked as a whole instead:

* dates in words (``Jul  1 08:16:53``): a part with a month. A date in digits that ends a part (``2026-09-10 08:16:53
  UTC``, ``[10/Sep/2026:08:16:53 +0000]``) is one part with what may belong to it;
* stack traces, colours, and white space other than spaces: a part with a control character;
* a frame on a line of its own: a message that begins with ``at``.

Runs of values are the one mask that is applied to the whole afterwards. Hexadecimal words and UUIDs are values whatever
their letters are, so that before all else `alike` makes texts one that differ in those alone.
"""

from __future__ import annotations

import re

from .decision import ERROR_LIKE
from .masks import MASKS, VARIABLE, mask_folded

LONGEST = 128
"""Characters of a part that is remembered."""

_A_PART = ("values", "places", "long words", "names with digits", "numbers", "mark")
_AFTERWARDS = "long runs"
_COMPILED = {m.name: (re.compile(m.pattern, re.A | re.S), m.replacement) for m in MASKS}
_PASSES = [_COMPILED[name] for name in _A_PART]
# A name has digits, and without one nothing is marked.
_WITHOUT_DIGITS = [_COMPILED[name] for name in _A_PART if name not in ("names with digits", "mark")]
_RUNS, _RUN = _COMPILED[_AFTERWARDS]
_LEAST_RUN = 9
_OPEN = re.compile(
    r"[\x00-\x1f]|Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec|0000[-/.]00[-/.]00(?:[T_][0:.,]*)?\Z", re.A
)
"""What a mask may reach over a space from."""
_DATE = re.compile(r"[^\x00-\x1fA-Z]*(?:0000[-/.]00[-/.]00(?:[T_][0:.,]*)?|\b00/[A-Z][a-z]+/0000:[0:.,]+)\Z", re.A)
"""From these only forward, over one space or two: to a clock time and a zone."""
_WORDS_OF_DATE = 3

# Words that are one value whatever their letters are, with a key before them and a sign after: a UUID, a hexadecimal
# word (lower case, so that no month begins in it), a name with a sign before its digits or digits in two places.
_VALUE = re.compile(
    r"([A-Za-z_]*=)?"
    r"(?:([0a-f]{8}-[0a-f]{4}-[0a-f]{4}-[0a-f]{4}-[0a-f]{12}|(?=[a-f]*0)[0a-f]{8,})"
    r"|[A-Za-z]+_[A-Za-z_]*0[A-Za-z0_]*|[A-Za-z]*0+[A-Za-z_]+0[A-Za-z0_]*)([,;:]?)",
    re.A,
)
# Of a stem of several words, the longest: "timed" of "timed out".
_LONGEST_WORDS = {max(reversed(stem.split(" ")), key=len) for stem, _ in ERROR_LIKE}
# One that holds another (error: err) rules nothing out that the other does not.
_STEM = re.compile(
    "|".join(sorted(stem for stem in _LONGEST_WORDS if not any(other in stem for other in _LONGEST_WORDS - {stem})))
)


_DIGITS = bytes.maketrans(b"abcdef", b"000000")
_IDS = re.compile(
    rb"""[ "'=/:<\[({-](?=[0a-f]{8})0*[a-f][0a-f]*(?:-[0a-f]{4}-[0a-f]{4}-[0a-f]{4}-[0a-f]{12})?(?!\w)""", re.A
)
"""A hexadecimal word or a UUID, where neither a date nor a fraction of a second can begin before it."""
_ID_OF_KIND = re.compile(rb"_(?:[a-f]+0[0a-f]{2}|0+[a-f])[0a-f]*(?!\w)", re.A)
"""Hexadecimal digits after an underscore (req_0c0f), decimal ones among them."""


def alike(folded: bytes) -> bytes:
    """The folded text (in UTF-8) with the letters of hexadecimal ids made digits, so that more texts are one.

    It keeps its length, and is masked as before: such a word is a value whatever its digits are, and no word that
    reports an error is of these letters alone.
    """
    if b"\n" in folded or b"\x1b" in folded:  # the frames of a stack trace and colours tell digits from letters
        return folded
    if b"_" in folded:
        folded = _ID_OF_KIND.sub(_zeros, folded)
    return _IDS.sub(_zeros, folded) if b"00000000" in folded.translate(_DIGITS) else folded


def _zeros(found: re.Match[bytes]) -> bytes:
    return found[0].translate(_DIGITS)


class Words:
    """The parts of messages that were met, masked; it holds at most so many, then begins anew."""

    def __init__(self, remember: int = 30_000) -> None:
        self._remember = remember
        self._plain: dict[str, str] = {}
        self._suspect: dict[str, str] = {}
        """Those that may be part of what reads like an error; the others are in `_plain`."""
        self._dates: dict[str, tuple[str, bool]] = {}

    def mask(self, folded: str) -> tuple[str, bool]:
        """The masked message of a folded text, and False where it surely does not read like an error.

        The first is ``masks.mask_folded(folded)``; where the second is False, so is ``decision.error_like`` of the text
        before it was folded.
        """
        words = folded.split(" ")
        masked: list[str | None] = list(map(self._plain.get, words))
        suspect = False
        if None in masked or words[0] == "at":
            read = self._parts(words, masked)
            if read is None:
                return mask_folded(folded), True
            suspect = read
        if "" in masked:
            masked = [word for word in masked if word]
        text = " ".join(masked)  # type: ignore[arg-type]
        if text.count(VARIABLE) >= _LEAST_RUN:
            text = _RUNS.sub(_RUN, text)
        return text, suspect

    def _parts(self, words: list[str], masked: list[str | None]) -> bool | None:
        """Fill in what is missing of the masked words; whether one may report an error.

        None where the message must be read as a whole.
        """
        if words[0] in ("", "at"):
            return None
        suspect = False
        for i, word in enumerate(words):
            if masked[i] is None:
                found, read = self._part(word)
                if found is None:
                    following = words[i + 1 : i + _WORDS_OF_DATE]
                    date = " ".join([word, *following])
                    known = self._dates.get(date)
                    if known is None:
                        if _DATE.match(word) is None or "" in following or any(map(_OPEN.search, following)):
                            return None
                        known = self._date(date)
                    found, read = known
                    masked[i + 1 : i + 1 + len(following)] = [""] * len(following)
                masked[i] = found
                suspect = suspect or read
        return suspect

    def _date(self, text: str) -> tuple[str, bool]:
        """A date with what follows it. Not among the words: where one of them ends a message, nothing follows it."""
        found = _masked(text), _suspect(text)
        if len(text) <= LONGEST:
            if len(self._dates) >= self._remember:
                self._dates.clear()
            self._dates[text] = found
        return found

    def _part(self, word: str) -> tuple[str | None, bool]:
        """A word masked, or None where what stands around it counts; whether it may report an error."""
        known = self._suspect.get(word)
        if known is not None:
            return known, True
        if '"' in word:
            return self._quoted(word)
        if "0" in word:
            value = _VALUE.fullmatch(word)
            if value is not None:
                key, plain, sign = value.groups("")
                return f"{key}{VARIABLE}{sign}", not (plain and not key) and _suspect(word)
        return (None, True) if _OPEN.search(word) is not None else self._learn(word)

    def _learn(self, word: str) -> tuple[str, bool]:
        masked = _masked(word)
        suspect = _suspect(word)
        self._keep(word, masked, suspect)
        return masked, suspect

    def _quoted(self, word: str) -> tuple[str | None, bool]:
        pieces = word.split('"')
        masked: list[str | None] = list(map(self._plain.get, pieces))
        suspect, new = False, False
        for i, piece in enumerate(pieces):
            if masked[i] is None:
                new = new or piece not in self._suspect
                masked[i], read = self._part(piece)
                if masked[i] is None:
                    return None, True
                suspect = suspect or read
        text = '"'.join(masked)  # type: ignore[arg-type]
        if not new:
            self._keep(word, text, suspect)
        return text, suspect

    def _keep(self, word: str, masked: str, suspect: bool) -> None:
        if len(word) > LONGEST:
            return
        of = self._suspect if suspect else self._plain
        if len(of) >= self._remember:
            of.clear()
        of[word] = masked


def _masked(part: str) -> str:
    digits = "0" in part
    for pattern, replacement in _PASSES if digits else _WITHOUT_DIGITS:
        part = pattern.sub(replacement, part)
    return part


def _suspect(word: str) -> bool:
    return _STEM.search(word.lower()) is not None
