"""Templates as their messages write them: with the digits that all of them share.

What belongs here: from raw lines to mined templates, and back from a mined template (where a ``0`` stands for any
digits of a name) to the text that is shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lipservice_dagster.core.templates_mining import mine_texts
from lipservice_sampler.masks import VARIABLE, mask_folded
from lipservice_sampler.matching import words
from lipservice_sampler.text import repair

_DIGITS = re.compile("0+")


def _aligned(template: str) -> re.Pattern[str]:
    """A pattern that finds the template's runs of digits in a folded message, a group each.

    Between variables it looks for the next text that fits and never goes back (atomic groups), so that a message with
    hundreds of values is aligned in one pass.
    """
    pieces = []
    for i, text in enumerate(template.split(VARIABLE)):
        body = "".join(
            "(0+)" if piece.startswith("0") else r"\s+".join(map(re.escape, piece.split(" ")))
            for piece in re.split("(0+)", text)
            if piece
        )
        pieces.append(f"(?>.*?{body})" if i else rf"\s*{body}")
    return re.compile("".join(pieces), re.S)


def _written(template: str, values: list[set[bytes]]) -> str:
    """The template with the n-th run of digits as in `values[n]`, or its word as a variable where they differ."""
    place = iter(values)

    def word(text: str) -> str:
        sets = [next(place) for _ in _DIGITS.finditer(text)]
        if any(len(s) != 1 for s in sets):
            return VARIABLE
        digits = iter([next(iter(s)).decode() for s in sets])
        return _DIGITS.sub(lambda _: next(digits), text)

    parts, separators = words(template)
    return "".join(w + s for w, s in zip(map(word, parts), [*separators, ""], strict=True))


def mined_lines(raw: Sequence[bytes], folded: Sequence[bytes]) -> dict[bytes, tuple[str, str]]:
    """For each distinct folded line: its mined template and the template as written. `raw` and `folded` run in step."""
    distinct = list(dict.fromkeys(folded))
    texts = [repair(line) for line in distinct]
    templates = mine_texts([mask_folded(t) for t in texts])
    # All raw lines of a folded one have their digits at the same places, so the places are looked for once.
    places: dict[bytes, list[tuple[int, int]]] = {}
    patterns: dict[str, re.Pattern[str]] = {}
    seen: dict[str, list[set[bytes]]] = {}
    template_of = dict(zip(distinct, templates, strict=True))
    for line, text in zip(distinct, texts, strict=True):
        template = template_of[line]
        if "0" not in template:
            continue
        if template not in patterns:
            patterns[template] = _aligned(template)
            seen[template] = [set() for _ in range(patterns[template].groups)]
        found = patterns[template].match(text) if line.isascii() else None
        if found is not None:
            places[line] = [found.span(g + 1) for g in range(len(seen[template]))]
    if places:
        for line, key in zip(raw, folded, strict=True):
            spans = places.get(key)
            if spans is not None:
                for values, (start, end) in zip(seen[template_of[key]], spans, strict=True):
                    values.add(line[start:end])
    shown = {t: _written(t, seen[t]) if t in seen and all(seen[t]) else t for t in set(templates)}
    return {line: (t, shown[t]) for line, t in template_of.items()}
