"""A masked message finds its template; a template's pattern matches its raw messages."""

from __future__ import annotations

import random
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipservice_sampler.masks import mask
from lipservice_sampler.matching import Matcher, collapse, fields, runs, template_regex, words
from lipservice_sampler.text import repair

TEXTS = st.text(st.one_of(st.sampled_from("ab10 <*>=\"'()[]{},;:|#.-/\\\n\t"), st.characters()), max_size=40).map(
    repair
)


def test_variables_match_words_and_constants_match_themselves() -> None:
    matcher = Matcher(["user <*> logged in", "user <*> logged out"])
    assert matcher.match("user alice logged in") == "user <*> logged in"
    assert matcher.match("user <*> logged out") == "user <*> logged out"
    assert matcher.match("user alice logged off") is None
    assert matcher.match("user alice logged in twice") is None


def test_the_most_specific_template_wins_whatever_the_order() -> None:
    templates = ["<*> done", "job <*>", "job done"]
    for order in (templates, templates[::-1]):
        assert Matcher(order).match("job done") == "job done"
        assert Matcher(order).match("job started") == "job <*>"
        assert Matcher(order).match("task done") == "<*> done"


def test_values_of_any_length_match_fields_and_runs() -> None:
    matcher = Matcher(['{"msg":"hi","user":"<*>"}', "ids [<*>] seen", "plugins: <*>", "wait <*> left"])
    assert matcher.match('{"msg":"hi","user":"Anna Maria Smith"}') == '{"msg":"hi","user":"<*>"}'
    assert matcher.match('{"msg":"ho","user":"Anna Maria Smith"}') is None
    assert matcher.match("ids [<*>, <*>, <*>] seen") == "ids [<*>] seen"
    assert matcher.match("plugins: a, b, c") == "plugins: <*>"
    assert matcher.match("wait <*> seconds left") == "wait <*> left"


def test_a_list_of_quoted_words_is_a_field() -> None:
    template = '{"roles":["<*>","<*>"],"by":"<*>"}'
    assert Matcher([template]).match('{"roles":["beacon","basin"],"by":"Ana María"}') == template


def test_a_variable_may_span_words_where_enough_is_constant() -> None:
    matcher = Matcher(["Sending mail to <*> failed twice", "<*> started", "Sending mail to nobody failed twice"])
    assert matcher.match("Sending mail to Anna Maria Smith failed twice") == "Sending mail to <*> failed twice"
    assert matcher.match("Sending mail to nobody failed twice") == "Sending mail to nobody failed twice"
    assert matcher.match("Sending mail to a b c d e f g failed twice") is None
    assert matcher.match("Garbage collection started") is None


def test_nothing_matches_without_templates() -> None:
    assert Matcher([]).match_many(["", "a"]) == [None, None]


@given(st.lists(TEXTS.map(mask), max_size=6))
def test_every_template_matches_itself(templates: list[str]) -> None:
    assert Matcher(templates).match_many(templates) == templates


@given(st.lists(TEXTS.map(mask), max_size=6), st.lists(TEXTS.map(mask), max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_templates_changes_nothing(templates: list[str], messages: list[str], rng: random.Random) -> None:
    shuffled = rng.sample(templates, len(templates))
    assert Matcher(templates).match_many(messages) == Matcher(shuffled).match_many(messages)


@given(TEXTS)
def test_parts_put_together_are_the_message(text: str) -> None:
    parts, seps = words(text)
    assert "".join(a + b for a, b in zip(parts, [*seps, ""], strict=True)) == text
    for cut in (fields, runs):
        parts, around = cut(text)
        assert "".join(a + b for a, b in zip(around, [*parts, ""], strict=True)) == text


@given(TEXTS)
def test_collapsing_twice_is_collapsing_once(text: str) -> None:
    assert collapse(collapse(text)) == collapse(text)


@given(TEXTS)
def test_a_pattern_matches_the_raw_message_of_its_template(text: str) -> None:
    if "\n" not in text and "\x1b" not in text:
        assert re.search(template_regex(mask(text)), text, re.A) is not None


def test_a_pattern_is_anchored_and_reads_constants_as_written() -> None:
    pattern = template_regex("open(<*>) failed: 'x' via ssh0")
    assert re.search(pattern, "open(/a b) failed:  'x' via ssh2\n")
    assert not re.search(pattern, "reopen(/a) failed: 'x' via ssh2")
    assert not re.search(pattern, "open(/a) failed: 'x' via sshd")
    assert not re.search(pattern, "open(/a) failed: 'x' via ssh2 now")


def test_a_pattern_passes_over_the_frames_of_a_stack_trace() -> None:
    raw = "Request 7 failed\njava.io.IOException: no\n\tat a.b(C.java:1)\nCaused by: x.Y: z\n\t... 3 more"
    assert re.search(template_regex(mask(raw)), raw)
    raw = 'Traceback (most recent call last):\n  File "/a.py", line 3, in f\n    g()\nKeyError: 7'
    assert re.search(template_regex(mask(raw)), raw)


def test_a_pattern_passes_over_frames_with_text_after_them() -> None:
    raw = "panic: index out of range [7]\n\ngoroutine 1 [running]:\nmain.f(0x1)\n\t/x/main.go:7 +0x1d\nexit status 2"
    assert re.search(template_regex(mask(raw)), raw)
    assert re.search(template_regex(mask(raw)), raw.removesuffix("\nexit status 2")) is None
    raw = (
        'Traceback (most recent call last):\n  File "/a.py", line 3, in f\n    g()\nKeyError: 7\n\nWhile handling:\n\n'
    )
    raw += 'Traceback (most recent call last):\n  File "/b.py", line 4, in h\n    k()\nValueError: 7'
    assert re.search(template_regex(mask(raw)), raw)


def test_a_pattern_passes_over_colours() -> None:
    raw = '\x1b[32mINFO\x1b[0m [\x1b[1;36mweb\x1b[0m]\x1b[0m: took \x1b[1m17\x1b[0m ms, x="\x1b[31mbad\x1b[0m" \x1b[0m'
    assert re.search(template_regex(mask(raw)), raw)
    assert re.search(template_regex(mask(raw)), re.sub("\x1b[^m]*m", "", raw))


@given(st.lists(st.lists(st.sampled_from(["<*>", "a", "b", "c"]), min_size=5, max_size=5), max_size=40), st.data())
def test_of_many_placements_the_one_with_most_constants_wins_then_the_leftmost(
    rows: list[list[str]], data: st.DataObject
) -> None:
    words = data.draw(st.lists(st.sampled_from("abcd"), min_size=5, max_size=5))
    fitting = [r for r in rows if all(w in ("<*>", m) for w, m in zip(r, words, strict=True))]
    places = [[i for i, w in enumerate(r) if w != "<*>"] for r in fitting]
    best = min(zip(places, fitting, strict=True), key=lambda p: (-len(p[0]), p[0]), default=None)
    expected = " ".join(best[1]) if best is not None else None
    assert Matcher(" ".join(r) for r in rows).match(" ".join(words)) == expected


WORDS = ["".join("abcdefghij"[int(d)] for d in f"{i * 7919 % 100_000:05}") for i in range(3000)]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("event {a} of <*> in {b}", "event {a} of {x} in {b}"),
        ("user <*> did {a} to {b} of <*>", "user {x} {y} did {a} to {b} of <*>"),
        ("user <*> did {c} to {d} of <*>", "user {x} {y} did {c} to {d} of <*>"),
        ("<*> did {a} to {b} of <*>", "<*> {x} did {a} to {b} of <*>"),
        ("{p} end", "{q} end"),
    ],
)
def test_many_templates_cost_little_more_than_few(template: str, message: str) -> None:
    def put(text: str, i: int, n: int) -> str:
        ways = [(WORDS[k], "<*>") if i >> k & 1 else (WORDS[k], WORDS[k]) for k in range(10)]
        return text.format(
            **dict(zip("abcd", (WORDS[i], WORDS[i + 1], WORDS[i % 40], WORDS[i // 40]), strict=True)),
            **dict(zip("xy", (WORDS[1100 + n], WORDS[n]), strict=True)),
            p=" ".join(way[1] for way in ways),
            q=" ".join(WORDS[1100 + n + k] if way[1] == "<*>" else way[0] for k, way in enumerate(ways)),
        )

    def seconds(count: int) -> float:
        matcher = Matcher(put(template, i, 0) for i in range(count))
        messages = [put(message, n * 17 % count, n) for n in range(1800)]
        start = time.process_time()
        assert None not in matcher.match_many(messages)
        return time.process_time() - start

    assert seconds(1000) < 5 * max(min(seconds(10), seconds(10)), 0.005)
