"""Repair gives valid text that ClickHouse would give too, and names depend on text alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lipservice_sampler.text import MAX_CHARS, message_id, repair, signature


def test_a_run_of_invalid_bytes_is_one_sign() -> None:
    assert repair(b"a\xff\xfe\xfdb") == "a\ufffdb"
    assert repair(b"\xed\xa0\x80") == "\ufffd"
    assert repair("a\ud800\udfffb\ufffd\ufffd") == "a\ufffdb\ufffd"


def test_nul_is_shown_and_long_text_is_cut() -> None:
    assert repair(b"a\0b") == "a␀b"
    assert repair("é" * (MAX_CHARS + 5)) == "é" * MAX_CHARS
    assert repair(b"") == ""


@given(st.one_of(st.binary(), st.text(st.characters(exclude_categories=()))))
def test_repaired_text_is_valid_and_stays_as_it_is(raw: bytes | str) -> None:
    text = repair(raw)
    text.encode("utf-8")
    assert "\0" not in text
    assert "\ufffd\ufffd" not in text
    assert repair(text) == text
    assert repair(text.encode()) == text


@given(st.text())
def test_bytes_and_text_are_repaired_alike(text: str) -> None:
    valid = repair(text)
    assert repair(valid.encode("utf-8")) == valid


def test_names_are_sixteen_hex_digits_of_the_text() -> None:
    assert message_id("a") == "ca978112ca1bbdca"
    assert signature("", "a") != signature("a", "")
    assert signature("web", "x") == message_id("web\0x")
