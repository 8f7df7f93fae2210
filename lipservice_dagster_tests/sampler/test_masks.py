"""The masks find values and leave names, whatever the digits are."""

from __future__ import annotations

import random
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipservice_sampler.masks import MASKS, fold, mask, mask_many
from lipservice_sampler.text import MAX_CHARS, repair

EXAMPLES = {
    "Got connection from 10.0.0.7:8080 after 12 ms": "Got connection from <*> after <*> ms",
    "started at 2026-01-02T03:04:05.678Z, ends 2026/01/02 03:04:05,123 +0100": "started at <*>, ends <*>",
    "at Fri Jun 17 07:07:00 2005 and Jul  1 08:16:53": "at <*> and <*>",
    "id 123e4567-e89b-12d3-a456-426614174000 from ops@example.com": "id <*> from <*>",
    "mac 5c:50:15:4c:18:13 ip fe80:0:0:0:200:f8ff:fe21:67cf": "mac <*> ip <*>",
    "GET http://a.example/x?y=1&z=2 took 5.2 KB": "GET <*> took <*> KB",
    "read /var/log/app.log and C:\\Users\\me\\a.txt": "read <*> and <*>",
    "blk_-1608999687919862906 ok, attempt_1445144423722_0020_m_000000_0 ok": "<*> ok, <*> ok",
    "uid=0 tty=ssh total=[1, 2]": "uid=<*> tty=ssh total=[<*>, <*>]",
    "lr:00004ed0 core.2275 jetty-6.1.26 CPU#3": "lr:<*> core.<*> jetty-<*> CPU#<*>",
    "Event@7317849d at java.util.List": "Event@<*> at java.util.List",
    "enabled=true, parent null": "enabled=<*>, parent <*>",
    "floating instr. enabled.....1": "floating instr. enabled.....<*>",
    "action:android.intent.action.TIME_TICK": "action:android.intent.action.TIME_TICK",
    "用户17登录成功": "用户<*>登录成功",
    "eth0:10.0.0.7 via v4(en1:10.1.2.3:80)": "eth0:<*> via v0(en0:<*>)",
    "key SHA256:Ab3dEf+9/x8== used, x=3": "key SHA0:<*> used, x=<*>",
    "paid €12.50 of £90 or $7": "paid <*> of <*> or <*>",
    "url: /a/b?x=1&y=2, then": "url: <*>, then",
    'body \\"id7\\": \\"12\\"': 'body \\"id0\\": \\"<*>\\"',
    "handle @0x7ffe is undefined": "handle @<*> is undefined",
    "  two\t spaces \n": "two spaces",
    "\x1b[31mred\x1b[0m": "red",
    "": "",
}


@pytest.mark.parametrize(("raw", "masked"), EXAMPLES.items())
def test_values_are_masked_and_words_stay(raw: str, masked: str) -> None:
    assert mask(raw) == masked


def test_digits_of_a_name_read_zero() -> None:
    assert (
        mask("Failed password for root from 1.2.3.4 port 22 ssh2") == "Failed password for root from <*> port <*> ssh0"
    )
    assert mask("eth0") == mask("eth7") == mask("eth12")


def test_a_json_body_keeps_its_keys_and_words() -> None:
    body = '{"level":"info","msg":"user created","id":17,"ok":true}'
    assert mask(body) == '{"level":"info","msg":"user created","id":<*>,"ok":<*>}'


def test_frames_of_a_stack_trace_do_not_count_but_its_exceptions_do() -> None:
    def trace(kind: str, depth: int) -> str:
        frames = "".join(f"\n\tat a.b.C{i}.d(C.java:{i})" for i in range(depth))
        return f"Request failed\njava.lang.{kind}: no{frames}\nCaused by: java.io.IOException: x\n\t... {depth} more"

    assert mask(trace("StateException", 3)) == mask(trace("StateException", 30))
    assert mask(trace("StateException", 3)) != mask(trace("NullPointerException", 3))
    python = "Traceback (most recent call last):\n  File \"/a.py\", line 3, in f\n    g()\nKeyError: 'x'"
    assert mask(python) == "Traceback (most recent call last): KeyError: 'x'"


TEXTS = st.text(
    st.one_of(st.sampled_from(string.ascii_letters + string.digits + string.punctuation + " \t\n"), st.characters()),
    max_size=60,
)


@given(TEXTS, st.randoms(use_true_random=False))
def test_no_mask_depends_on_a_digits_value(text: str, rng: random.Random) -> None:
    text = repair(text)
    other = "".join(rng.choice(string.digits) if c in string.digits else c for c in text)
    assert mask(text) == mask(other) == mask(fold(text))


@given(st.lists(TEXTS, max_size=8))
def test_many_are_masked_as_each_alone(texts: list[str]) -> None:
    texts = [repair(t) for t in texts]
    assert mask_many(texts) == [mask(t) for t in texts]


@given(TEXTS)
def test_a_masked_message_is_one_line_without_the_inner_mark(text: str) -> None:
    masked = mask(repair(text))
    assert "\0" not in masked
    assert not set("\n\t\r") & set(masked)
    assert masked == masked.strip(" ")


@pytest.mark.parametrize(
    "unit", ["x", "a.", "a-", "a:", "a0.", "/a", "a@", "=", "[", "<*>", "\n at x", "Ab0C", "a-" * 79 + " "]
)
def test_no_text_costs_a_quadratic_search(unit: str) -> None:
    text = (unit * MAX_CHARS)[:MAX_CHARS]
    start = time.process_time()
    mask(text)
    assert time.process_time() - start < 1


def test_encoded_data_is_one_value() -> None:
    assert mask(f"body {'aGVsbG8gd29ybGQ+' * 20}== end") == "body <*> end"


def test_masks_have_distinct_names_and_no_construct_re2_lacks() -> None:
    assert len({m.name for m in MASKS}) == len(MASKS)
    for m in MASKS:
        for construct in ("(?=", "(?!", "(?<", "(?P", "(?>", "\\Z", "\\1"):
            assert construct not in m.pattern, m.name
