"""Demo messages from templates with variables: many at once, from a seeded generator.

A template is plain text with variables ``${name}`` or ``${name:arguments}``; `VARIABLES` lists them. Only one drawing
order exists (by the template, left to right), so the same generator state gives the same octets.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lipservice_dagster.local.ids import characters, hexadecimal, uuids

Draw = Callable[[np.random.Generator, np.ndarray], pa.Array]
"""From a generator and the rows' times (int64 microseconds since 1970, shape (n,)) to n strings."""

_VARIABLE = re.compile(r"\$\{(\w+)(?::([^}]*))?\}")
_BASE36 = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", dtype=np.uint8)

_NAMES = (
    "amelia|noah|yuki|priya|lars|zoe|omar|ines|mateo|chen|hana|björn|aisha|leo|nadia|tomas|freya|kofi|sofia|ravi"
    "|elena|marek|lucia|dmitri|anna|samuel|grace|pablo|mina|oskar"
)
_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.4 Safari",
    "Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0",
    "okhttp/4.12.0",
    "python-requests/2.32.3",
    "curl/8.9.1",
    "Googlebot/2.1 (+http://www.google.com/bot.html)",
)


def _range(arguments: str) -> tuple[int, int]:
    low, high = arguments.split("-")
    return int(low), int(high)


def _numbers(values: np.ndarray) -> pa.Array:
    return pa.array(values.astype(np.int64)).cast(pa.string())


def _int(arguments: str) -> Draw:
    low, high = _range(arguments)
    return lambda rng, times: _numbers(rng.integers(low, high + 1, size=len(times)))


def _decimal(arguments: str) -> Draw:
    low, high = _range(arguments)

    def draw(rng: np.random.Generator, times: np.ndarray) -> pa.Array:
        cents = rng.integers(low * 100, high * 100, size=len(times))
        return pc.binary_join_element_wise(_numbers(cents // 100), _padded(cents % 100, 2), ".")

    return draw


def _padded(values: np.ndarray, width: int) -> pa.Array:
    powers = 10 ** np.arange(width - 1, -1, -1, dtype=np.int64)
    return characters((values[:, None] // powers % 10 + ord("0")).astype(np.uint8))


def _digits(arguments: str) -> Draw:
    width = int(arguments)
    return lambda rng, times: _padded(rng.integers(0, 10**width, size=len(times)), width)


def _lognormal(arguments: str) -> Draw:
    median = float(arguments)

    def draw(rng: np.random.Generator, times: np.ndarray) -> pa.Array:
        return _numbers(np.maximum(median * rng.lognormal(0.0, 0.7, size=len(times)), 1))

    return draw


def _pick(arguments: str) -> Draw:
    """One of ``a|b|c``; ``a*9`` counts nine times as much as ``b``."""
    options = [option.rpartition("*") if "*" in option else (option, "*", "1") for option in arguments.split("|")]
    weights = np.cumsum([float(weight) for _, _, weight in options])
    texts = pa.array([text for text, _, _ in options])

    def draw(rng: np.random.Generator, times: np.ndarray) -> pa.Array:
        chosen = np.searchsorted(weights, rng.random(len(times)) * weights[-1], side="right")
        return texts.take(pa.array(chosen))

    return draw


def _hex(arguments: str) -> Draw:
    return lambda rng, times: characters(hexadecimal(rng, len(times), int(arguments)))


def _code(arguments: str) -> Draw:
    return lambda rng, times: characters(_BASE36[rng.integers(0, 36, size=(len(times), int(arguments)))])


def _uuid(_: str) -> Draw:
    return lambda rng, times: uuids(rng, len(times))


def _ip(arguments: str) -> Draw:
    """An IPv4 address that starts with the argument: ``10.2.`` has two numbers drawn."""
    drawn = 4 - arguments.count(".")

    def draw(rng: np.random.Generator, times: np.ndarray) -> pa.Array:
        numbers = [_numbers(rng.integers(1, 255, size=len(times))) for _ in range(drawn)]
        address = pc.binary_join_element_wise(*numbers, ".")
        return pc.binary_join_element_wise(pa.scalar(arguments), address, "") if arguments else address

    return draw


def _moment(form: str) -> Draw:
    def draw(rng: np.random.Generator, times: np.ndarray) -> pa.Array:
        # Without a zone, so that no time zone database is asked; %S carries the milliseconds.
        return pc.strftime(pa.array(times // 1000).cast(pa.timestamp("ms")), format=form)

    return draw


def _clf(_: str) -> Draw:
    def draw(rng: np.random.Generator, times: np.ndarray) -> pa.Array:
        return pc.strftime(pa.array(times // 1_000_000).cast(pa.timestamp("s")), format="%d/%b/%Y:%H:%M:%S +0000")

    return draw


def _name(_: str) -> Draw:
    return _pick(_NAMES)


def _email(_: str) -> Draw:
    name, number, host = _name(""), _int("1-999"), _pick("example.com*6|example.org*3|mail.example.net")

    def draw(rng: np.random.Generator, times: np.ndarray) -> pa.Array:
        local = pc.binary_join_element_wise(name(rng, times), number(rng, times), ".")
        return pc.binary_join_element_wise(local, host(rng, times), "@")

    return draw


def _agent(_: str) -> Draw:
    return _pick("|".join(f"{agent}*{len(_AGENTS) - i}" for i, agent in enumerate(_AGENTS)))


def _iso(_: str) -> Draw:
    return _moment("%Y-%m-%dT%H:%M:%SZ")


VARIABLES: dict[str, Callable[[str], Draw]] = {
    "int": _int,  # int:1-500
    "dec": _decimal,  # dec:5-900, two places
    "digits": _digits,  # digits:6, zero-padded
    "around": _lognormal,  # around:40, a median with a long tail
    "pick": _pick,  # pick:GET*9|POST
    "hex": _hex,  # hex:16
    "code": _code,  # code:8, upper-case letters and digits
    "uuid": _uuid,
    "ip": _ip,  # ip:10.2.
    "iso": _iso,  # the row's time
    "clf": _clf,  # the row's time as access logs write it
    "name": _name,
    "email": _email,
    "agent": _agent,
}


@cache
def _parts(template: str) -> tuple[str | Draw, ...]:
    parts: list[str | Draw] = []
    end = 0
    for found in _VARIABLE.finditer(template):
        if found.start() > end:
            parts.append(template[end : found.start()])
        parts.append(VARIABLES[found[1]](found[2] or ""))
        end = found.end()
    if end < len(template) or not parts:
        parts.append(template[end:])
    return tuple(parts)


def outline(template: str) -> str:
    """The template with its variables written ``<*>``."""
    return _VARIABLE.sub("<*>", template)


def messages(template: str, rng: np.random.Generator, times: np.ndarray) -> pa.Array:
    """One message a row of `times` (int64 microseconds since 1970, shape (n,)), as n binaries."""
    drawn = [pa.scalar(part) if isinstance(part, str) else part(rng, times) for part in _parts(template)]
    if all(isinstance(part, pa.Scalar) for part in drawn):
        return pa.array([template], pa.string()).take(pa.array(np.zeros(len(times), dtype=np.int64))).cast(pa.binary())
    return pc.binary_join_element_wise(*drawn, "").cast(pa.binary())
