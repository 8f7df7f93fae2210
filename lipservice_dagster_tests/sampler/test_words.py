"""Masking word by word gives what masking the whole gives, and rules out what reads like an error."""

from __future__ import annotations

import string
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lipservice_dagster.local.demo_logs import generate
from lipservice_sampler.decision import ERROR_LIKE, error_like
from lipservice_sampler.masks import MASKS, fold, mask_folded
from lipservice_sampler.text import repair
from lipservice_sampler.words import Words, alike

FRAGMENTS = [
    *("2026-09-10", "2026/09/10", "08:16:53", "08:16:53,123", "08:16:53.00abcdef", "+0200", "UTC", "Z", "PDT", "2005"),
    *("Jul", "Jul  1 08:16:53", "Fri, 01 Jul 2005", "10/Sep/2026:08:16:53", "1-Decadeaf-2000", "1 Decadeab", "00"),
    *("Dec_0a 2000", "Feb0abcd 10 08:16", "deadbeef", "DEADBEEF01", "0b0000e0/be0000fe", "aa:bb:cc:dd:ee:ff", "a:b:c:"),
    *("123e4567-e89b-12d3-a456-426614174000", "decadeab-1234-1234-1234-123456789abc", "ch_0f00a", "ord_PWDAZ00,"),
    *("charge=evt_f00", "error=ch_0f00", "oom_0a0", "fail0a0;", "x0y0", "ssh2", "eth0:10.0.0.7", "10.0.0.7:80", "v4("),
    *("http://a/b?x=1", "/var/log/a.log", "/a", "~/b", "C:\\x\\1", "me@example.com", "lr:00ed0", "core.2275", "a@0f"),
    *(
        '"',
        "'",
        "\\",
        "=",
        "==",
        ":",
        ",",
        ";",
        "|",
        ".",
        "-",
        "/",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "<*>",
        "<",
        ">",
        "\0",
    ),
    *(" ", "  ", "\t", "\n", "\x1b[31m", "\n\tat a.b", "at ", "at x.y(Z.java:3)", "\n#1 f", "1 2 3 4 5 6 7 8 9 10"),
    *("1,2,3,4,5,6,7,8,9", "true", "null", "None", "Foo.java:12", "用户17", "é9", "error", "failed", "timed out", "0"),
    *("no errors", "stack trace", "core dump", "connection", "refused", "reset by peer", "out of memory", "oom-killer"),
    *(
        "err",
        "error_code=E0",
        "job_failed",
        "could not connect",
        "unable to",
        "open",
        "ECONNREFUSED",
        "EOF",
        "unexpected",
    ),
    *("failed/aborted", "EIO", "EACCES", "EAI_FAIL", "IOError:", "error=nil", "pointer", "reference"),
]
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(FRAGMENTS),
        st.just(" "),
        st.text(st.sampled_from(string.ascii_letters + string.digits + string.punctuation + "  "), max_size=8),
        st.text(st.characters(), max_size=3),
    ),
    max_size=14,
).map("".join)


@settings(max_examples=400)
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_word_by_word_is_as_a_whole_whatever_was_met_before(texts):
    words = Words(remember=8)
    for text in texts:
        text = repair(text)
        folded = fold(text)
        for _ in range(2):
            masked, suspect = words.mask(folded)
            assert masked == mask_folded(folded)
            assert suspect or not error_like(text)


IDS = st.one_of(
    st.text(st.sampled_from("0abcdef"), min_size=1, max_size=14),
    st.sampled_from(
        ["00000000-0a00-0bcd-abcd-00000000000f", "deadbeef-dead-beef-dead-beefdeadbeef", "deadlock", "fail"]
    ),
)
AROUND = st.one_of(
    st.sampled_from(["", *" _-.,:;/@=\"'()[]{}<>|+\n", "x", "X", "0", "_0", "core-", "Dec-", " Jul  0", "0000-00-00_"]),
    st.sampled_from(FRAGMENTS),
)


@settings(max_examples=400)
@given(st.one_of(TEXTS, st.lists(st.one_of(AROUND, IDS), max_size=12).map("".join)))
def test_texts_that_differ_in_ids_alone_are_one_and_masked_as_before(text):
    folded = fold(repair(text))
    shape = alike(folded.encode()).decode()
    assert len(shape) == len(folded)
    assert mask_folded(shape) == mask_folded(folded)
    assert Words().mask(shape)[1] or not error_like(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cart 0ab0c0d0 priced", "cart c0ffee00 priced"),
        ("for=00000000-0000-0000-0000-00000000000f", "for=abcdef00-a000-0b00-000c-000000000000"),
        ("charge ch_0f0a", "charge ch_a00b"),
    ],
)
def test_ids_are_alike(one: str, other: str):
    assert alike(one.encode()) == alike(other.encode())


@pytest.mark.parametrize("text", ["x_dead", "a decade", "0000-00-00T00:00:00.00abcdef00 b", "took 0d", "/0ab/x"])
def test_what_may_be_no_id_stays(text: str):
    assert alike(text.encode()) == text.encode()


@settings(max_examples=200)
@given(st.lists(st.sampled_from(FRAGMENTS), min_size=2, max_size=6))
def test_whole_words_between_spaces_are_as_a_whole(words):
    folded = fold(repair(" ".join(words)))
    assert Words().mask(folded)[0] == mask_folded(folded)


def test_the_demos_messages_are_masked_as_a_whole_would_be():
    words = Words()
    day = date(2026, 9, 10)
    for team in (1, 2, 3):
        table = generate(team, day, until=day, days=1, logs_per_day=1500)
        for body in table["body"].to_pylist():
            text = repair(body)
            masked, suspect = words.mask(alike(fold(text).encode()).decode())
            assert masked == mask_folded(fold(text))
            assert suspect or not error_like(text)


@pytest.mark.parametrize("stem", [stem for stem, _ in ERROR_LIKE])
def test_a_word_that_may_report_an_error_is_never_ruled_out(stem):
    words = Words()
    for _ in range(2):
        assert words.mask(f"x {stem.upper()} y")[1]
        assert words.mask(f'{{"a":"{stem}"}}')[1]


def test_every_mask_is_applied_in_a_part_or_afterwards_or_makes_the_message_a_whole():
    # A new mask needs a thought about whether it reaches over a space.
    assert [m.name for m in MASKS] == [
        *("escapes", "frames", "white space", "edges", "lone frame", "values", "places", "long words"),
        *("names with digits", "numbers", "long runs", "mark"),
    ]


def test_memory_does_not_grow_with_words():
    words = Words(remember=100)
    for i in range(5000):
        words.mask(f"some-{'abcdefghij'[i % 10]}{i:x} {'long' * 40}{i} error-{i:x}q")
    assert len(words._plain) + len(words._suspect) <= 200


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("at the end 2026-09-10", "begun 2026-09-10 08:16:53 UTC"),
        ("cut [10/Sep/2026:08:16:53", "whole [10/Sep/2026:08:16:53 +0000]"),
        ("2026-09-10 8", "2026-09-10 8 9"),
    ],
)
def test_a_date_that_ended_a_message_still_takes_what_follows_it_in_another(first, then):
    words = Words()
    for text in (first, then):
        assert words.mask(fold(text))[0] == mask_folded(fold(text))
