"""Who and why: what a person does to policies is answered for in words that can be read later."""

from __future__ import annotations


class UnaccountableError(ValueError):
    """Nobody is named, or no reason is given; the message says which."""


def accountable(who: str, why: str) -> tuple[str, str]:
    """Who decides and why, without white space around.

    Raises:
        UnaccountableError: one of the two is empty or blank.
    """
    who, why = who.strip(), why.strip()
    missing = [words for text, words in ((who, "who decides this"), (why, "why")) if not text]
    if missing:
        raise UnaccountableError(f"It does not say {' and '.join(missing)}: name a person and give a reason")
    return who, why
