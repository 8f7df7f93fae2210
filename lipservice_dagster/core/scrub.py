"""Scrubbing: what looks like a secret is taken out of a text before the text leaves the machine.

Masks have already replaced what is certainly a variable; this is the second look, over what they left: the letters of a
key without digits, a password behind ``password=``. In doubt it takes out: a word too many costs the reader of the
template little, a secret too many cannot be called back.
"""

from __future__ import annotations

import re

REMOVED = "<secret>"

_SENSITIVE = (
    r"pass(?:word|wd|phrase|code)?|pwd|secret|token|credential|authorization|api[ _.-]?key|access[ _.-]?key"
    r"|account[ _.-]?key|private[ _.-]?key|signing[ _.-]?key|encryption[ _.-]?key|session[ _.-]?(?:id|key)"
    r"|cookie|jsessionid|phpsessid|signature|connection[ _.-]?string"
    # Short ones as words of their own: hotplug holds otp.
    r"|(?<![a-z])(?:otp|cvv|cvc|ssn|iban|auth|sid|sig|pin)(?![a-z])"
)
_IN_NAME = r"[A-Za-z0-9_.\-\[\]]{0,64}"
# A scheme before a token belongs to the value: Authorization: Bearer …
_SCHEME = r"(?:(?:bearer|basic|digest|negotiate|token|apikey|aws4-hmac-sha256)[ :=]+)?"
_VALUE = r"\"(?:\\.|[^\"\\])*\"?|'(?:\\.|[^'\\])*'?|" + _SCHEME + r"(?!<\*>(?:[\s,;)\]}\"']|$))\S+"
_SIGN = r"[A-Za-z0-9_.~+/=<*>-]"

_PATTERNS: tuple[tuple[str, str], ...] = (
    # Private keys, to their end or, cut off, to the end of the text.
    (r"-{0,5}BEGIN[A-Z ]{0,40}PRIVATE KEY.*?(?:END[A-Z ]{0,40}PRIVATE KEY[A-Z ]{0,40}-*|\Z)", REMOVED),
    # User and password of a URL or DSN.
    (r"(://)\S{0,1000}@", rf"\1{REMOVED}@"),
    # Webhooks: the path is the key.
    (r"(hooks\.slack\.com/|discord(?:app)?\.com/api/webhooks/|webhook\.office\.com/)\S+", rf"\1{REMOVED}"),
    # password=…, "apiKey": "…", Authorization: Bearer …, --token …
    (rf"((?:{_SENSITIVE}){_IN_NAME}[\"']?\s*(?:=>|:=|=|:)\s*)(?:{_VALUE})", rf"\1{REMOVED}"),
    (rf"((?<!\S)--?{_IN_NAME}(?:{_SENSITIVE}){_IN_NAME}\s+)(?:{_VALUE})", rf"\1{REMOVED}"),
    (rf"(\bbearer\s+)(?!<\*>(?:\s|\Z)){_SIGN}+", rf"\1{REMOVED}"),
    # JSON Web Tokens and whatever else begins as base64 of {" does.
    (r"\beyJ[A-Za-z0-9_<*>-]{4,}(?:\.[A-Za-z0-9_<*>=-]*){0,4}", REMOVED),
    # Keys that tell by their beginning: Stripe, Anthropic, OpenAI; GitHub; GitLab; Slack; AWS; Google; npm, PyPI,
    # Hugging Face, DigitalOcean, SendGrid, Shopify, PostHog, Vault, age, Twilio.
    (
        r"\b(?:[spr]k[-_](?:live|test|ant|proj|or|svcacct)?[-_]?|gh[pousr]_|github_pat_|gl(?:pat|cbt|dt|rt|soat)-"
        r"|xox[a-z]-|xapp-|ya29\.|npm_|pypi-|hf_|do[opr]_v0?1?_|SG\.|shp(?:at|ca|pa|ss)_|ph[cxs]_|hv[sbr]\.)"
        rf"{_SIGN}{{6,}}",
        REMOVED,
    ),
    (r"\b(?:AKIA|ASIA|AGPA|AIDA|AROA|AIPA|ANPA|ANVA|ABIA|ACCA)[A-Z0-9<*>]{8,}", REMOVED),
    (rf"\b(?:AIza|AGE-SECRET-KEY-){_SIGN}{{10,}}", REMOVED),
    # E-mail addresses.
    (r"[\w.+%'-]+@[^\W\d_][\w-]*(?:\.[\w-]+)+", REMOVED),
    # Numbers as long as a payment card's, in one piece or in groups.
    (r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)", REMOVED),
)
_COMPILED = tuple((re.compile(pattern, re.IGNORECASE | re.DOTALL), by) for pattern, by in _PATTERNS[:6]) + tuple(
    (re.compile(pattern), by) for pattern, by in _PATTERNS[6:]
)

_RUN = re.compile(r"[A-Za-z0-9+/_=~-]{20,}")
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_LONGEST_WORD = 24
_SHORTEST_PARTS = 3.2


def scrub(text: str) -> str:
    """The text with ``<secret>`` for what looks like one; scrubbing again changes nothing.

    Taken out are: private keys, users and passwords in URLs, values behind names such as password, token, api_key or
    authorization, bearer tokens, JSON Web Tokens, keys of well-known services by their beginning, e-mail addresses,
    numbers as long as a payment card's, and long runs of letters and digits that are no words.
    """
    for pattern, replacement in _COMPILED:
        text = pattern.sub(replacement, text)
    return _RUN.sub(lambda run: REMOVED if _random(run[0]) else run[0], text)


def _random(run: str) -> bool:
    """Whether a run of 20 characters or more reads like encoded data and not like names.

    Names (camelCase, snake_case, paths) fall into words of several letters at changes of case and at signs; random
    letters of both cases fall into pieces of about two.
    """
    if any(c.isdigit() for c in run) and any(c.isalpha() for c in run):
        return True
    parts = _PARTS.findall(run)
    if not parts:
        return False
    return max(map(len, parts)) > _LONGEST_WORD or sum(map(len, parts)) / len(parts) < _SHORTEST_PARTS
