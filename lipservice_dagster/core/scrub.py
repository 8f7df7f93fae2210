"""Scrubbing: what looks like a secret is taken out of a text before the text leaves the machine.

Masks have already replaced what is certainly a variable; this is the second look, over what they left: the letters of a
key without digits, a password behind ``password=``. In doubt it takes out: a word too many costs the reader of the
template little, a secret too many cannot be called back.
"""

from __future__ import annotations

import re
from functools import cache

REMOVED = "<secret>"

# What is a word or a phrase: spaces belong to it.
_PHRASED = (
    r"(?<![a-z])(?:pass(?:word|wd|phrase|code)?s?|pw|psw|pswd|passw|pwds?|secrets?|creds?|credentials?|seed[ _-]?phrase"
    r"|mnemonic|recovery[ _-]?(?:code|phrase|key)s?)(?![a-z])"
    r"|(?:user|db|client|app|root|admin|my|new|old)(?:passwords?|secrets?|passphrases?)(?![a-z])"
    # German, the Romance and Nordic languages, Dutch, Polish and Czech, Hungarian, Turkish, Finnish, Russian, Chinese,
    # Japanese, Korean.
    r"|kennw[oö]rte?r?|passw(?:o|ö|o\u0308)rte?r?|contrase(?:ñ|n\u0303|n)as?|senhas?|mots? de passe|parola"
    r"|lösenord|adgangskode|passord|wachtwoord(?:en)?|has[łl][oaeo]|heslo|jelszó|şifre|salasana"
    r"|парол(?:ь|я|ю|и|ем|ей|е)|密[码碼]|口令|暗証番号|パスワード|비밀번호"
)
_SENSITIVE = (
    r"pass(?:word|wd|phrase|code)?|pwd|secret|token|credential|authorization|api[ _.-]?key|access[ _.-]?key"
    r"|account[ _.-]?key|private[ _.-]?key|signing[ _.-]?key|encryption[ _.-]?key|session[ _.-]?(?:id|key)"
    r"|cookie|jsessionid|phpsessid|signature|connection[ _.-]?string"
    # Short ones as words of their own: hotplug holds otp.
    r"|(?<![a-z])(?:otp|cvv|cvc|ssn|iban|auth|sid|sig|pin)(?![a-z])|" + _PHRASED
)
_IN_NAME = r"[A-Za-z0-9_.\-\[\]]{0,64}"
_QUOTE = r"\\{0,4}[\"']"
# Atomic: of => the > is never the value's.
_SEPARATOR = r"\s*(?>=>|->|:=|=|:|：|＝|%3[AD])\s*"
_ENDS = r"(?:[\s,;|&)\]}\"'<]|$)"
# What is a variable, or taken out, already.
_NO_VALUE = rf"(?!(?:<\*>|{REMOVED}){_ENDS})"
_QUOTED = r"\\{1,4}\"(?:(?!\\+\").)*(?:\\+\")?|\"(?:\\.|[^\"\\])*\"?|'(?:\\.|[^'\\])*'?|[\[{][^\]}]*[\]}]*"
# A scheme before a token belongs to the value: Authorization: Bearer …
_SCHEME = r"(?:(?:bearer|basic|digest|negotiate|token|apikey|aws4-hmac-sha256)[ :=]+)?"
_BARE = _SCHEME + _NO_VALUE + r"\S+"
_VALUE = rf"{_QUOTED}|{_BARE}"
# A phrase goes on until a sign ends it, a variable follows or a key with a value.
_PHRASE = _NO_VALUE + r"\S+(?:(?<![,;|&)\]}\"'])[ \t]+(?![\w.-]+[\"']?\s*[=:]|<)[^\s,;|&)\]}\"'<>]+)*"
# What a sentence says of a password without telling it.
_SAID = (
    r"(?:(?:in)?(?:correct|valid)|wrong|expired|required|missing|empty|blank|not|too|weak|strong|the|an?|set|unset|re-?set"
    r"|changed|null|none|nil|ok|accepted|rejected|refused|stored|used|being|about|older|shorter|longer|now|never|no"
    r"|needed|unknown|disabled|enabled|due|in|on|by|for|from|to|of|only|already|still|updated|rotated|revoked|created"
    r"|deleted|mandatory|optional|mismatched|encrypted|hashed|and|or)(?![\w-])"
)
_SIGN = r"[A-Za-z0-9_.~+/=<*>-]"

_ANY_CASE: tuple[tuple[str, str], ...] = (
    # Private keys, to their end or, cut off, to the end of the text.
    (r"-{0,5}BEGIN[A-Z ]{0,40}PRIVATE KEY.*?(?:END[A-Z ]{0,40}PRIVATE KEY[A-Z ]{0,40}-*|\Z)", REMOVED),
    # User and password of a URL or DSN, of Oracle's, and before a host without a scheme.
    (r"(://)\S{0,1000}@", rf"\1{REMOVED}@"),
    (r"(jdbc:oracle:\w+:|\bsqlplus\s+)[^\s@]+(?=@)", rf"\1{REMOVED}"),
    (r"(?<![\w/.:@-])[\w.+-]{1,64}:(?!\d*<\*>@)[^\s:/@<>]{1,64}(?=@[a-z])", REMOVED),
    # Webhooks: the path is the key.
    (r"(hooks\.slack\.com/|discord(?:app)?\.com/api/webhooks/|webhook\.office\.com/)\S+", rf"\1{REMOVED}"),
    # Headers, whatever the scheme: to the end of the line.
    (
        rf"((?<![a-z])(?:authorization|(?:set-)?cookies?)(?:{_QUOTE})?{_SEPARATOR})(?:{_QUOTED}|{_NO_VALUE}[^\s][^\r\n]*)",
        rf"\1{REMOVED}",
    ),
    # <password>…</password>; our own mark is no tag, unless it is one that ends.
    (
        rf"(<(?:[\w.-]+:)?(?!secret>)[\w.-]*(?:{_SENSITIVE})[\w.-]*(?:\s[^<>]*)?>)(?!\s*(?:<\*></|{REMOVED}|\Z))"
        r"(?:<\*>|[^<])+",
        rf"\1{REMOVED}",
    ),
    (rf"({REMOVED})[^<]+(?=</secret)", rf"\1{REMOVED}"),
    # password: correct horse battery
    (
        rf"((?:{_PHRASED})(?:[_.-]\w{{1,64}}|\[\w*\])?(?:{_QUOTE})?{_SEPARATOR})(?:{_QUOTED}|{_SCHEME}{_PHRASE})",
        rf"\1{REMOVED}",
    ),
    # password=…, "apiKey": "…", --token …
    (rf"((?:{_SENSITIVE}){_IN_NAME}(?:{_QUOTE})?{_SEPARATOR})(?:{_VALUE})", rf"\1{REMOVED}"),
    (rf"((?<!\S)--?{_IN_NAME}(?:{_SENSITIVE}){_IN_NAME}\s+)(?:{_VALUE})", rf"\1{REMOVED}"),
    # password is …; a password with a digit in it right after the word
    (
        rf"((?:{_PHRASED}|(?:api|access|secret)[ _-]?key)\s*(?:\b(?:is|was|ist|es|est)\s+|[是为為は]\s*))(?!{_SAID})"
        rf"(?:{_VALUE})",
        rf"\1{REMOVED}",
    ),
    (rf"((?:{_PHRASED})\s+)(?=[^\s<]*[a-z])(?=[^\s<]*\d)[^\s<]+", rf"\1{REMOVED}"),
    # CREATE USER … IDENTIFIED BY '…'
    (rf"(\bidentified\s+(?:with\s+\S+\s+)?(?:by|as)\s+(?:password\s+)?)(?:{_VALUE})", rf"\1{REMOVED}"),
    # curl -u user:password, sshpass -p …, mysql -p…
    (rf"((?<!\S)(?:-u|--(?:proxy-)?user)[ =]?[\"']?)[^\s:]+:{_NO_VALUE}\S+", rf"\1{REMOVED}"),
    (rf"(\bsshpass\s+-p\s*)(?:{_VALUE})", rf"\1{REMOVED}"),
    (rf"(\b(?:mysql|mariadb)\w*\b[^\n|;]{{0,200}}?\s-p){_NO_VALUE}\S+", rf"\1{REMOVED}"),
    (rf"(\bbearer\s+)(?!<\*>(?:\s|\Z)){_SIGN}+", rf"\1{REMOVED}"),
)
_AS_WRITTEN: tuple[tuple[str, str], ...] = (
    (r"(\b[Bb]asic\s+)(?=[a-z0-9+/]*[A-Z0-9][A-Za-z0-9+/]*[a-z]|\S+=)[A-Za-z0-9+/]{6,}={0,2}", rf"\1{REMOVED}"),
    # Telegram's bots: a number, which may be masked, and a key.
    (r"(?:\bbot)?(?:\d{5,12}|<\*>):AA[A-Za-z0-9_<*>-]{6,}", REMOVED),
    # Licences and recovery codes in groups.
    (r"\b[A-Z0-9]{5}(?:-[A-Z0-9]{5}){3,}\b", REMOVED),
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


@cache
def _compiled() -> tuple[tuple[re.Pattern[str], str], ...]:
    """The expressions in turn, compiled at the first text: who only loads the graph scrubs nothing."""
    return tuple((re.compile(pattern, re.IGNORECASE | re.DOTALL), by) for pattern, by in _ANY_CASE) + tuple(
        (re.compile(pattern), by) for pattern, by in _AS_WRITTEN
    )


_RUN = re.compile(r"[A-Za-z0-9+/_=~-]{20,}|(?<![\w+/=~-])[A-Za-z0-9]{16,19}(?![\w+/=~-])")
_SURE = 20
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_LONGEST_WORD, _LONGEST_CAPITALS = 24, 19
_SHORTEST_PARTS, _SHORTEST_IN_SHORT = 3.2, 2.6
_MOST_SCRAPS = 1 / 3
_MOST_TURNS = 10


def scrub(text: str) -> str:
    """The text with ``<secret>`` for what looks like one; scrubbing again changes nothing.

    Taken out are: private keys, users and passwords in URLs and on command lines, headers that authorize, values behind
    names such as password (in a dozen languages), token or api_key, bearer tokens, JSON Web Tokens, keys of well-known
    services by their beginning, e-mail addresses, numbers as long as a payment card's, and long runs of letters and
    digits that are no words.
    """
    # What was taken out may leave a name before the next word: token="…"word. Each turn takes out more, until none is.
    for _ in range(_MOST_TURNS):
        before = text
        for pattern, replacement in _compiled():
            text = pattern.sub(replacement, text)
        text = _RUN.sub(lambda run: REMOVED if _random(run[0]) else run[0], text)
        if text == before:
            break
    return text


def _random(run: str) -> bool:
    """Whether a run of 16 characters or more reads like encoded data and not like names.

    Names (camelCase, snake_case, paths) fall into words of several letters at changes of case and at signs; random
    letters of both cases fall into pieces of about two, or into many scraps of one and two. From 20 characters a digit
    among the letters tells, too, and capitals without a sign are no word.
    """
    letters = any(c.isalpha() for c in run)
    if len(run) >= _SURE and letters and any(c.isdigit() for c in run):
        return True
    parts = _PARTS.findall(run)
    if not parts or not letters:
        return False
    if any(len(part) > (_LONGEST_CAPITALS if part.isupper() else _LONGEST_WORD) for part in parts):
        return True
    if (len(run) < _SURE or not run.islower()) and sum(len(part) <= 2 for part in parts) > max(
        2, _MOST_SCRAPS * len(parts)
    ):
        return True
    return sum(map(len, parts)) / len(parts) < (_SHORTEST_PARTS if len(run) >= _SURE else _SHORTEST_IN_SHORT)
