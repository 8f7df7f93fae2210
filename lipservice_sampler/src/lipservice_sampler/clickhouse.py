"""Repair and masks as ClickHouse SQL, so that a day's logs are masked where they lie.

What belongs here: SQL expressions that give, for every input, the text `text.repair` and `masks.mask` give in Python.
"""

from __future__ import annotations

from .masks import FOLD_FROM, FOLD_TO, MASKS
from .text import MAX_CHARS, NUL_SIGN, REPLACEMENT

_ESCAPES = {"\\": "\\\\", "'": "\\'", "\0": "\\0", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\x1b": "\\x1B"}


def string_literal(text: str) -> str:
    """The text as a ClickHouse string literal, quoted and escaped.

    Raises `ValueError` for text with lone surrogates, which no UTF-8 query can carry: repair it first.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as e:
        raise ValueError(f"text has a lone surrogate at character {e.start}; pass it through text.repair first") from e
    return "'" + "".join(_ESCAPES.get(c, c) for c in text) + "'"


def repair_sql(text: str) -> str:
    """SQL for `text.repair` of a String expression; `text` is SQL, inserted as it is."""
    # toValidUTF8 swallows what follows a lead byte near the end of the string, hence the pad, taken off again.
    valid = f"replaceRegexpOne(toValidUTF8(concat({text}, '   ')), ' {{3}}$', '')"
    joined = f"replaceRegexpAll({valid}, {string_literal(REPLACEMENT + '{2,}')}, {string_literal(REPLACEMENT)})"
    return f"substringUTF8(replaceAll({joined}, {string_literal(chr(0))}, {string_literal(NUL_SIGN)}), 1, {MAX_CHARS})"


def fold_sql(repaired: str) -> str:
    """SQL for `masks.fold` of a repaired text: a cheap key, under which all rows have one masked message."""
    return f"translate({repaired}, '{FOLD_FROM}', '{FOLD_TO}')"


def mask_sql(repaired: str) -> str:
    """SQL for `masks.mask` of a repaired (or folded) text; `repaired` is SQL, inserted as it is."""
    sql = fold_sql(repaired)
    for m in MASKS:
        sql = f"replaceRegexpAll({sql}, {string_literal(m.pattern)}, {string_literal(m.replacement)})"
    return sql
