"""The masks: which parts of a message are certainly a variable, whatever other messages say.

What belongs here: the one definition of the masks, as data, and their Python compilation. `clickhouse.mask_sql`
compiles the same data to SQL. The patterns therefore keep to what Python's ``re`` (flags A and S) and RE2 both have: no
look-around, no back-references in patterns, nothing possessive.

How a message is masked:

1. Digits are folded (1-9 become 0), so every later step sees ``0`` for any digit, and messages that differ in digits
   only are masked once.
2. `MASKS` run in order. The first ones find values with a form of their own (times, addresses, URLs, paths). Then
   digits that belong to a *name* (``ssh2``, ``L3``, ``eth0``) are marked with NUL, which no repaired text holds. Then
   every token that still has a digit, or touches a value found before, is glued to one ``<*>``.
3. The mark is taken back: a run of digits within a name reads ``0``.

A ``0`` in a masked message thus stands for any run of digits within a name, ``<*>`` for a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

MASK_VERSION = 2
"""Raised whenever a masked message can change; stored with the data and part of the assets' code version."""

FOLD_FROM = "123456789"
FOLD_TO = "000000000"
MARK = "\0"
VARIABLE = "<*>"

_FOLD = str.maketrans(FOLD_FROM, FOLD_TO)
_REMEMBERED = 512


@dataclass(frozen=True)
class Mask:
    """A named pattern (common subset of ``re`` with flags A and S, and RE2) and what replaces each match.

    In `replacement`, ``\\1`` and ``\\2`` are the groups of the pattern, empty where they did not take part.
    """

    name: str
    pattern: str
    replacement: str


_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_WEEKDAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*"
_CLOCK = "00?:00(?::00(?:[.,]0+)?)?"
_ZONE = "(?: ?(?:Z|UTC|GMT|[A-Z]{1,4}T|[AP]M|[+-]00:?00)\\b)"
_HEX = "[0a-fA-F]"

# Inside a value: characters beside letters and digits, a variable already found, a colon before a number.
_IN = r"(?:[A-Za-z0_./@+~^$%&*?!\\\x00-]|<\*>|:+(?:0|<\*>))"
_END = r"(?:[A-Za-z0_/@+~^$%&*\x00-]|<\*>)"
# What may stand in a token before its value.
_PRE = r"(?:[A-Za-z_/+~$€£¥%&\\\x00-][A-Za-z_./@+~^$%&*?!\\\x00-]*:*)?"
# What makes a token a value: a digit that is not a name's, a variable, two names with digits in one token.
_VALUE = r"(?:0|<\*>|\x00[.:/-][A-Za-z./-]*\x00)"
_REST = rf"{_VALUE}(?:{_IN}*{_END})?(?:==?\B)?"

_VALUES = (
    # 2005-06-03T15:42:50.363Z, 2005/06/03 15:42:50,363 +0200, 2005-06-03
    rf"\b0000[-/.]00[-/.]00(?:[T _]{_CLOCK}{_ZONE}?)?\b"
    # Fri, 01 Jul 2005 08:16:53 GMT
    rf"|\b(?:{_WEEKDAY},? )?00?[ -]{_MONTH}[ -]0000(?:,? {_CLOCK}{_ZONE}?)?\b"
    # Fri Jul 01 08:16:53 PDT 2005, Jul  1 08:16:53
    rf"|\b(?:{_WEEKDAY},? )?{_MONTH} {{1,2}}00?,? (?:0000,? )?{_CLOCK}{_ZONE}?(?: 0000\b)?"
    # 01/Jul/2005:08:16:53 +0000
    rf"|\b00/{_MONTH}/0000:{_CLOCK}{_ZONE}?"
    # UUID
    rf"|\b{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}\b"
    # MAC, IPv6 with at least two colons
    rf"|\b{_HEX}{{2}}(?:[:-]{_HEX}{{2}}){{5,}}\b|\b{_HEX}{{1,4}}(?::{_HEX}{{0,4}}){{3,7}}\b"
    # hex words without a digit among them; no English word of eight letters has only a to f
    rf"|\b{_HEX}{{8,}}\b"
)

MASKS: tuple[Mask, ...] = (
    Mask("escapes", r"\x1b\[[0;?]*[A-Za-z]", ""),
    # Frames of a stack trace: the first line and the exceptions' own lines decide, not the way there. Java, .NET, Node;
    # Java's tail; Python with its source lines; Ruby; PHP; Go, whose frames are two lines.
    Mask(
        "frames",
        r"\n[ \t]*(?:at [^\n]*|\.\.\. 0+ (?:more|common frames)[^\n]*"
        r"|File \"[^\n]*(?:\n {4}[^\n]*)*|from [^\n]*:in [^\n]*)"
        r"|\n#0+ [^\n]*|\n[^ \n\t][^\n]*\n\t[^ \n]*:0+[^\n]*",
        "",
    ),
    Mask("white space", r"[ \t\n\r\f\x0b]+", " "),
    Mask("edges", r"^ | $", ""),
    # A frame on a line of its own.
    Mask("lone frame", r"^at [^ ]*\([^()]*\)(?: ~?\[[^\[\]]*\])?$", f"at {VARIABLE}"),
    Mask("values", _VALUES, VARIABLE),
    Mask(
        "places",
        # URL; e-mail; IPv4 with its port, before a name can take a part of it (eth0:10.0.0.1); Windows path; path,
        # which keeps what stands before it
        r"\b[A-Za-z][A-Za-z0+.-]*://[^ \"'<>()\[\]{},;|]*[^ \"'<>()\[\]{},;|.:!?]"
        r"|\b[A-Za-z0_.+-]{1,64}@[A-Za-z0-]+(?:\.[A-Za-z0-]+)+"
        r"|\b00?0?\.00?0?\.00?0?\.00?0?(?::0+)?\b"
        r"|\b[A-Za-z]:\\[^ \"'<>()\[\]{},;|]*[^ \"'<>()\[\]{},;|.:!?]"
        r"|(^|[ =(\"'\[{,:<>|])(?:~|\.\.?)?/[^ \"'<>()\[\]{},;|=?]*[^ \"'<>()\[\]{},;|=.:!?/]/?"
        r"(?:\?[^ \"'<>()|]*[^ \"'<>()|,;.:!?])?",
        r"\1<*>",
    ),
    # Encoded data and the like. With it gone, no word is long enough for a quadratic search in the masks below.
    Mask("long words", r"[A-Za-z0_./:@+~^$%&*?!\\=-]{160,}", VARIABLE),
    Mask(
        "names with digits",
        # ssh2, jk2_init, flush2DB, Slf4jLogger
        r"\b([A-Za-z]+)0{1,3}(_[A-Za-z_]+|[A-Z]+[a-z]*|[a-z]*[A-Z][a-z]+[A-Za-z]*)?\b",
        r"\1" + MARK + r"\2",
    ),
    Mask(
        "numbers",
        # Source files keep their names (Foo.java:<*>). Hosts with a number or a port are one value.
        r"(\b[A-Za-z_.$\x00-]+\.(?:java|kt|scala|py|go|js|mjs|ts|tsx|c|cc|cpp|h|hpp|rs|rb|php|cs|ex|swift):)0+\b"
        r"|\b[A-Za-z-]+\x00(?:\.[A-Za-z\x00-]+){2,5}(?::0+)?"
        r"|\b[A-Za-z\x00-]+(?:\.[A-Za-z\x00-]+){1,5}:00+\b"
        r"|\b[A-Za-z-]*[a-z]\x00:000+\b|\blocalhost:00+\b"
        # What stays before a value: keys (lr:), a type before its address (Event@), dot leaders, a word and a sign
        # (core.<*>, jetty-<*>, PS/<*>). Then whole tokens. Then words that are values.
        rf"|((?:\b[A-Za-z][A-Za-z_.\x00-]*:)+){_PRE}{_REST}"
        rf"|(\b[A-Za-z][A-Za-z_.$\x00-]*(?:@|\.\.+)|\b[A-Za-z]+[./-]){_REST}"
        rf"|{_PRE}{_REST}"
        r"|\b(?:true|false|null|nil|True|False|None|TRUE|FALSE|NULL|NaN)\b",
        r"\1\2\3<*>",
    ),
    # Arrays and dumps of numbers: how many there are says nothing, and it would make each length a message of its own.
    Mask("long runs", r"<\*>(?:[ ,;|]+<\*>){8,}", VARIABLE),
    Mask("mark", MARK, "0"),
)
"""In the order they run."""

_COMPILED = tuple((re.compile(m.pattern, re.A | re.S), m.replacement) for m in MASKS)


def fold(text: str) -> str:
    """The text with every ASCII digit replaced by ``0``."""
    return text.translate(_FOLD)


def mask_folded(folded: str) -> str:
    """The masked message of a folded text; see `mask`."""
    for pattern, replacement in _COMPILED:
        folded = pattern.sub(replacement, folded)
    return folded


def mask(text: str) -> str:
    """The masked message of a repaired text: values are ``<*>``, digits within names ``0``, white space single.

    Depends on no digit's value: ``mask(text) == mask(fold(text))``.
    """
    folded = text.translate(_FOLD)
    # Short messages repeat, and few of them fill the memory; long ones hardly do, and many would.
    return _remembered(folded) if len(folded) <= _REMEMBERED else mask_folded(folded)


_remembered = lru_cache(maxsize=16_384)(mask_folded)


def mask_many(texts: Iterable[str]) -> list[str]:
    """`mask` of each text, in order; each distinct folded text is masked once."""
    known: dict[str, str] = {}
    masked = []
    for text in texts:
        folded = text.translate(_FOLD)
        got = known.get(folded)
        if got is None:
            got = known[folded] = mask_folded(folded)
        masked.append(got)
    return masked
