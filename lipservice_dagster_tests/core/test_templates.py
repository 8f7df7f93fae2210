"""Mining: what is one template, what stays two, and that only the set of messages decides."""

from __future__ import annotations

import io
import random
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lipservice_dagster.core.templates import mine, templates_of
from lipservice_dagster.templates_command import run
from lipservice_sampler.masks import mask
from lipservice_sampler.matching import Matcher
from lipservice_sampler.text import repair, signature

NAMES = [
    "alice",
    "bob",
    "carol",
    "dave",
    "erin",
    "frank",
    "grace",
    "heidi",
    "ivan",
    "judy",
    "mallory",
    "oscar",
    "peggy",
    "trent",
    "victor",
    "walter",
]


def mined(raw: list[str]) -> dict[str, str]:
    """Raw message → mined template."""
    result = mine([mask(r) for r in raw])
    return {r: result.templates[i] for r, i in zip(raw, result.assignment, strict=True)}


def test_a_word_becomes_a_variable_with_evidence() -> None:
    raw = [f"session of user {n} was closed" for n in NAMES]
    assert set(mined(raw).values()) == {"session of user <*> was closed"}
    assert len(set(mined(raw[:2]).values())) == 2


def test_opposite_states_stay_apart() -> None:
    raw = [f"[instance: {i}f] VM {s} (Lifecycle Event)" for i in range(9) for s in ("Started", "Paused", "Stopped")]
    assert len(set(mined(raw).values())) == 3


def test_states_in_capitals_stay_apart() -> None:
    states = ("NEW", "SCHEDULED", "RUNNING", "FAILED", "KILLED", "SUCCEEDED")
    raw = [f"task_{i} moved from {a} to {b}" for i, (a, b) in enumerate(pairwise(states))]
    assert len(set(mined(raw).values())) == len(raw)


def test_one_stray_message_is_not_drawn_into_a_big_group() -> None:
    raw = [f"package {n} was installed by root" for n in NAMES] + ["package alice was removed by root"]
    templates = mined(raw)
    assert templates[raw[-1]] == "package <*> was removed by root"
    assert {templates[r] for r in raw[:-1]} == {"package <*> was installed by root"}


def test_participles_and_opposites_are_states_and_stay_apart() -> None:
    raw = [f"VM {i} {s} by the scheduler" for i in range(9) for s in ("started", "paused", "resumed", "stopped")]
    assert len(set(mined(raw).values())) == 4
    ready = ("NodeReady", "NodeNotReady", "NodeHasDiskPressure", "NodeHasSufficientMemory")
    assert len(set(mined([f"Node node-{i} status is now: {s}" for i in range(9) for s in ready]).values())) == 4


def test_states_in_brackets_stay_apart_and_names_there_do_not() -> None:
    levels = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")
    raw = [f"[{level}] queue [{'a, ' * i}a] is slow" for level in levels for i in range(6)]
    assert set(mined(raw).values()) == {f"[{level}] queue [<*>] is slow" for level in levels}
    raw = [f"[{n} the {i}th] queue [{'a, ' * i}a] is slow" for i, n in enumerate(NAMES)]
    assert set(mined(raw).values()) == {"[<*>] queue [<*>] is slow"}


def test_yes_and_no_are_a_value() -> None:
    assert set(mined([f"device {i} available {a}" for i in range(3) for a in ("YES", "NO")]).values()) == {
        "device <*> available <*>"
    }


def test_a_first_word_with_a_dot_is_a_name() -> None:
    raw = [f"{n}.exe - lost {i} packets of {i}" for i, n in enumerate(NAMES[:5])]
    assert set(mined(raw).values()) == {"<*> - lost <*> packets of <*>"}


def test_a_word_known_as_a_value_after_its_neighbour_is_one_elsewhere() -> None:
    raw = [f"accepted key of user {n} from port {i}" for i, n in enumerate(NAMES)]
    raw += ["too many failures of user alice", "too many failures of all kinds"]
    templates = mined(raw)
    assert templates["too many failures of user alice"] == "too many failures of user <*>"
    assert templates["too many failures of all kinds"] == "too many failures of all kinds"


def test_labels_that_change_together_are_values() -> None:
    raw = [f"labels now app:{a} tier:{b}" for a, b in pairwise(NAMES)]
    assert set(mined(raw).values()) == {"labels now app:<*> tier:<*>"}


def test_a_full_stop_ends_the_sentence_not_the_value() -> None:
    raw = [f"Closed the session of {n}." for n in NAMES]
    assert set(mined(raw).values()) == {"Closed the session of <*>."}


def test_events_whose_words_change_together_stay_apart() -> None:
    raw = ["interrupt: illegal instruction", "interrupt: imprecise exception", "interrupt: unknown operation"]
    raw += ["interrupt: privileged call", "interrupt: floating trap"]
    assert len(set(mined(raw).values())) == len(raw)


def test_json_keys_are_constant_and_values_vary() -> None:
    raw = [
        f'{{"level":"info","msg":"user {m}","user":"{n}","id":{i},"ok":true}}'
        for i, n in enumerate([*NAMES, "Anna Maria Smith", "Jan van der Berg"])
        for m in ("created", "deleted")
    ]
    assert set(mined(raw).values()) == {
        f'{{"level":"info","msg":"user {m}","user":"<*>","id":<*>,"ok":<*>}}' for m in ("created", "deleted")
    }


EVENTS = (
    *("cache miss", "payment accepted", "payment declined", "order shipped", "retrying request", "disk almost full"),
    *("connection reset by peer", "socket opened again", "nothing to compact", "leader elected", "lease renewed"),
    *("queue drained", "snapshot written", "index rebuilt", "shard moved away", "token refreshed", "volume mounted"),
)


@pytest.mark.parametrize(
    "form",
    [
        'time=2024-01-01T10:00:00Z level={} msg="{}" user={} n={}',
        '{{"level":"{}","msg":"{}","user":"{}","n":{}}}',
        '{{"level": "{}", "message": "{}", "user": "{}", "n": {}}}',
    ],
)
def test_levels_and_messages_within_records_stay_apart(form: str) -> None:
    raw = [form.format(lv, e, n, i) for lv in ("info", "warn", "error", "debug") for e in EVENTS for i, n in pairs()]
    assert len(set(mined(raw).values())) == 4 * len(EVENTS)


def pairs() -> list[tuple[int, str]]:
    return list(enumerate(NAMES[:5]))


def test_events_of_one_word_within_records_stay_apart() -> None:
    verbs = ("login", "logout", "purchase", "refund", "signup", "deletion", *NAMES)
    for form in ('{{"event":"{}","user":"{}","n":{}}}', "action={} user={} n={}"):
        raw = [form.format(v, n, i) for v in verbs for i, n in pairs()]
        assert len(set(mined(raw).values())) == len(verbs)


@pytest.mark.parametrize(
    "states",
    [
        ("up", "down", "slow", "offline", "draining"),
        ("success", "failure", "timeout", "partial"),
        ("start", "stop", "pause", "resume", "reload"),
        ("allow", "deny", "drop", "reject"),
    ],
)
def test_words_of_which_two_are_opposites_are_states_and_stay_apart(states: tuple[str, ...]) -> None:
    raw = [f"the manager of rack {i} has recorded a {s} here" for i in range(9) for s in states]
    assert len(set(mined(raw).values())) == len(states)


@pytest.mark.parametrize(
    "states", [("up", "down"), ("passed", "failed"), ("ok", "fail"), ("open", "closed"), ("on", "off")]
)
def test_opposites_in_records_stay_apart_whatever_their_key(states: tuple[str, str]) -> None:
    for form in ("if=eth0 link={} speed={}", '{{"job":"nightly","verdict":"{}","n":{}}}', 'check="{}" by=root n={}'):
        raw = [form.format(s, i) for i in range(9) for s in states]
        assert len(set(mined(raw).values())) == 2
        other = [form.format(s, i) for i in range(9) for s in ("alder", "birch")]
        assert len(set(mined(other).values())) == 1


def test_a_message_within_a_record_varies_inside_as_plain_text_does() -> None:
    raw = [f'level=info msg="user {n} logged {way}" n=1' for n in [*NAMES, *FULL_NAMES] for way in ("in", "back in")]
    assert set(mined(raw).values()) == {f'level=info msg="user <*> logged {way}" n=<*>' for way in ("in", "back in")}


def test_a_message_within_a_record_varies_inside_beside_lists_of_any_length() -> None:
    rng = random.Random(5)
    raw = [
        f'{{"msg":"user {n} logged {way}","roles":[{", ".join(f"{r!r}" for r in rng.sample(NAMES, length))}],"n":{i}}}'
        for i, n in enumerate(NAMES)
        for way in ("in", "out")
        for length in (0, 1, 1, 2, 2, 2)
    ]
    raw = [r.replace("'", '"') for r in raw]
    assert set(mined(raw).values()) == {
        f'{{"msg":"user <*> logged {way}","roles":[<*>],"n":<*>}}' for way in ("in", "out")
    }


def test_why_something_failed_may_be_free_text_beside_what_failed() -> None:
    raw = [f'level=error msg="cannot connect" err="{n}" n={i}' for i, n in enumerate(FULL_NAMES)]
    assert set(mined(raw).values()) == {'level=error msg="cannot connect" err="<*>" n=<*>'}


def test_punctuation_of_texts_without_spaces_parts_words() -> None:
    cities = ("北京", "上海", "广州", "深圳", "成都", "杭州", "南京", "武汉")
    raw = [f"登录成功：用户（{n}），来自「{c}」。" for n in NAMES for c in cities]
    assert set(mined(raw).values()) == {"登录成功：用户（<*>），来自「<*>」。"}


def test_quotes_within_quotes_do_not_end_them() -> None:
    raw = [f'{{"user":"{n}","msg":"said \\"{n}\\" to all","note":"so \\"{n} {n}\\""}}' for n in NAMES]
    assert set(mined(raw).values()) == {'{"user":"<*>","msg":"said \\"<*>\\" to all","note":"so \\"<*> <*>\\""}'}
    raw = [f'{{"note":"\\"{n}\\" it is","user":"{n}","msg":"all \\"done\\" now"}}' for n in [*NAMES, *FULL_NAMES]]
    assert set(mined(raw).values()) == {'{"note":"<*>","user":"<*>","msg":"all \\"done\\" now"}'}


def test_key_value_bodies_with_values_of_several_forms_are_one_template() -> None:
    raw = [
        f'acquire lock={i}, tag="{t}", name={n}, ws={w}, uid={i}'
        for i, (t, n, w) in enumerate(
            [("View Lock", "com.a.ui", "null"), ("RILJ", "android", "Source{12}"), ("*launch*", "com.a.ui", "null")]
        )
    ]
    assert set(mined(raw).values()) == {'acquire lock=<*>, tag="<*>", name=<*>, ws=<*>, uid=<*>'}


def test_values_of_one_word_and_of_several_are_one_template_and_match_it() -> None:
    raw = [f"Sending mail to {n} failed twice" for n in NAMES]
    raw += [f"Sending mail to {n} {m} failed twice" for n in NAMES for m in NAMES[::-1]]
    templates = mined(raw)
    assert set(templates.values()) == {"Sending mail to <*> failed twice"}
    assert set(Matcher(templates.values()).match_many([mask(r) for r in raw])) == set(templates.values())


FULL_NAMES = [f"{a} {b}" for a, b in pairwise(NAMES)] + [f"{a} {b} {a}son" for a, b in pairwise(NAMES)]


def test_values_of_several_words_may_stand_twice_and_what_happened_between_them_stays() -> None:
    raw = [
        f"Player {n} {verb} {item} for {i} gold"
        for i, (n, item) in enumerate(
            zip(FULL_NAMES, [*NAMES[::-1], *FULL_NAMES[::-1]][: len(FULL_NAMES)], strict=True)
        )
        for verb in ("bought", "sold")
    ]
    templates = {f"Player <*> {verb} <*> for <*> gold" for verb in ("bought", "sold")}
    assert set(mined(raw).values()) == templates
    assert set(Matcher(templates).match_many([mask(r) for r in raw])) == templates


def test_what_surrounds_a_value_of_several_words_stays() -> None:
    raw = [f"Rule {n}, chosen by hand, was applied" for n in [*NAMES, *FULL_NAMES]]
    assert set(mined(raw).values()) == {"Rule <*>, chosen by hand, was applied"}


def test_messages_behind_a_common_head_are_events() -> None:
    events = (
        *("Starting the server", "Reading settings from disk", "Cache is warm", "All connections drained", "Bye"),
        *(
            "Leader was elected",
            "Lost the leadership",
            "Queue full, rejecting",
            "Metrics exposed",
            "Nothing to compact",
        ),
        *("Ready to serve", "Certificates reloaded", "Write ahead log truncated", "Heartbeat missed", "Disk is slow"),
    )
    for head in ("INFO [main] org.acme.Main - ", "app core notice: ", "unit alpha of rack 7 "):
        assert len(set(mined([head + e for e in events]).values())) == len(events), head


def test_the_text_of_an_exception_is_a_value_its_type_is_not() -> None:
    raw = [f"Job failed for good: {t}: {n}" for t in ("IOException", "KeyError") for n in [*NAMES, *FULL_NAMES]]
    assert set(mined(raw).values()) == {f"Job failed for good: {t}: <*>" for t in ("IOException", "KeyError")}


def test_lists_of_any_length_are_one_template() -> None:
    raw = [f"assigned partitions [{', '.join(f'orders-{i}' for i in range(n))}] now" for n in range(1, 30)]
    assert set(mined(raw).values()) == {"assigned partitions [<*>] now"}
    raw = [f"Loaded plugins: {', '.join(NAMES[i : i + n])}" for n in range(1, 5) for i in range(12)]
    assert len(set(mined(raw).values())) == 1


def test_values_in_several_units_are_one_template_and_one_unit_stays_written() -> None:
    assert set(mined(["took 5 ms to flush", "took 2 s to flush"]).values()) == {"took <*> to flush"}
    assert set(mined(["took 5 ms to flush", "took 2 ms to flush"]).values()) == {"took <*> ms to flush"}


def test_durations_of_any_form_are_one_template() -> None:
    raw = [f"ready after {d} of work" for d in ("5 seconds", "1 day 2 hours", "3 hours 17 minutes", "2 days")]
    assert set(mined(raw).values()) == {"ready after <*> of work"}


def test_a_unit_of_size_is_part_of_the_value_where_the_service_writes_several() -> None:
    fixed = [f"limit is {i} MB, used {i} MB" for i in range(3)]
    assert set(mined(fixed).values()) == {"limit is <*> MB, used <*> MB"}
    several = mined([*fixed, "heap grew by 5 KB", "heap grew by 7 GB"])
    assert {several[r] for r in fixed} == {"limit is <*>, used <*>"}


def test_lists_of_all_lengths_give_evidence_together() -> None:
    raw = [f"UPDATE {n} SET done WHERE id IN ({', '.join('123456'[: i + 1])})" for i, n in enumerate(NAMES[:6])]
    assert set(mined(raw).values()) == {"UPDATE <*> SET done WHERE id IN (<*>)"}


def test_an_empty_value_is_a_value() -> None:
    raw = ["connection from 10.0.0.1 () at noon", "connection from 10.0.0.2 (a-b-17.example.net) at noon"]
    assert set(mined(raw).values()) == {"connection from <*> (<*>) at noon"}


def test_the_exceptions_type_decides() -> None:
    types = ("IOException", "StateException", "NullPointerException", "TypeError", "KeyError", "ValueError")
    raw = [f"worker {i} died\njava.lang.{t}: no\n\tat a.b(C.java:{i})" for i, t in enumerate(types)]
    assert len(set(mined(raw).values())) == len(types)


def test_the_assignment_points_into_sorted_templates() -> None:
    result = mine(["b <*>", "a", "b <*>"], [1, 2, 3])
    assert result.templates == ("a", "b <*>")
    assert result.assignment.dtype == np.int64
    assert result.assignment.tolist() == [1, 0, 1]
    empty = mine([])
    assert empty.templates == ()
    assert empty.assignment.shape == (0,)


def test_counts_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="2 messages but 1 counts"):
        mine(["a", "b"], [1])


TEXTS = st.lists(st.text(st.sampled_from('ab1 ="()[]{},:<*>\n'), max_size=30).map(repair), max_size=25)


@settings(deadline=None)
@given(TEXTS, st.randoms(use_true_random=False))
def test_neither_order_nor_counts_decide(raw: list[str], rng: random.Random) -> None:
    before = mined(raw)
    shuffled = rng.sample(raw, len(raw)) + raw[:3]
    assert mined(shuffled) == before
    messages = [mask(r) for r in raw]
    assert mine(messages, [rng.randrange(9) for _ in messages]).templates == mine(messages).templates


@settings(deadline=None)
@given(st.lists(st.text(max_size=40).map(repair), max_size=10))
def test_any_text_is_mined(raw: list[str]) -> None:
    assert len(mined(raw)) == len(set(raw))


def _service(seed: int, lines: int) -> list[str]:
    rng = random.Random(seed)
    forms = (
        lambda: f"user {rng.choice(NAMES)} logged in from 10.0.{rng.randrange(256)}.{rng.randrange(256)}",
        lambda: f"job {rng.choice(NAMES)} finished in {rng.randrange(999)} {rng.choice(['ms', 's'])}",
        lambda: (
            f'level=info msg="request handled" user="{rng.choice(NAMES)} {rng.choice(NAMES)}" dur={rng.randrange(99)}ms'
        ),
        lambda: f'{{"msg":"paid","by":"{rng.choice(NAMES)}","items":[{", ".join(map(str, range(rng.randrange(9))))}]}}',
        lambda: f"values: {[rng.randrange(99) for _ in range(rng.randrange(9))]}",
        lambda: f"tags: {', '.join(rng.sample(NAMES, rng.randrange(1, 5)))}",
        lambda: f"order {rng.randrange(9**9)} shipped to {rng.choice(FULL_NAMES)} within {rng.randrange(9)} days",
        lambda: f"retry in {rng.choice(['5 seconds', '2 hours 3 minutes', '1 day'])} by {rng.choice(NAMES)}.",
        lambda: f"cache {rng.choice(['hit', 'miss'])} for blk_{rng.randrange(10**9)}",
        lambda: f"replication {rng.choice(['enabled', 'disabled'])} on node-{rng.randrange(99)}",
    )
    return [rng.choice(forms)() for _ in range(lines)]


def test_matching_agrees_with_mining() -> None:
    messages = [mask(r) for r in _service(1, 4000)]
    assert _matched(messages) == _mined(messages)


@settings(deadline=None)
@given(TEXTS)
def test_matching_agrees_with_mining_on_any_text(raw: list[str]) -> None:
    messages = [mask(r) for r in raw]
    assert _matched(messages) == _mined(messages)


def test_of_two_templates_that_fit_alike_matching_and_mining_choose_the_same() -> None:
    rng = random.Random(4)
    pieces = ("{}", "[{}, {}]", "({})", "({} {})", '"{}"', "{}: {}", "{}, {}", "{{{}={}}}", "<{}>", "{}...")
    words = [a + b for a in ("ca", "de", "fo", "gi", "hu") for b in ("b", "dd", "ga")]
    shapes = [rng.choices(pieces, k=rng.randrange(1, 5)) for _ in range(60)]
    raw = [" ".join(p.format(*rng.sample(words, 2)) for p in rng.choice(shapes)) for _ in range(1500)]
    messages = [mask(r) for r in raw]
    assert _matched(messages) == _mined(messages)


def _mined(messages: list[str]) -> list[str]:
    result = mine(messages)
    return [result.templates[i] for i in result.assignment]


def _matched(messages: list[str]) -> list[str | None]:
    return Matcher(mine(messages).templates).match_many(messages)


def test_one_half_of_a_stream_knows_the_other() -> None:
    messages = [mask(r) for r in _service(2, 6000)]
    left, right = mine(messages[::2]), mine(messages[1::2])
    matched = Matcher(left.templates).match_many(messages[1::2])
    agree = sum(m == right.templates[i] for m, i in zip(matched, right.assignment, strict=True))
    assert agree >= 0.995 * len(matched)


def test_templates_of_lines_are_written_as_their_messages_are() -> None:
    lines = [f"Failed password for {n} from 10.0.0.{i} port {i} ssh2" for i, n in enumerate(NAMES)]
    lines += ["LOGIN ON tty1", "LOGIN ON tty2", "jk2_init() done"]
    pairs = templates_of(lines)
    assert {t for _, t in pairs[: len(NAMES)]} == {"Failed password for <*> from <*> port <*> ssh2"}
    assert [t for _, t in pairs[len(NAMES) :]] == ["LOGIN ON <*>", "LOGIN ON <*>", "jk2_init() done"]
    assert pairs[0][0] == signature("", "Failed password for <*> from <*> port <*> ssh0")
    assert pairs[-1][0] == signature("", "jk0_init() done")


def test_the_command_answers_line_by_line() -> None:
    lines = [*_service(3, 500), "", "\ttab", "ünï", "ssh2 ünï"]
    out = io.BytesIO()
    run(io.BytesIO("\n".join(lines).encode() + b"\n\xff\xfe bad\n"), out)
    rows = [line.split("\t") for line in out.getvalue().decode().removesuffix("\n").split("\n")]
    assert rows[:-1] == [[s, t] for s, t in templates_of([*lines, "\ufffd bad"])][:-1]
    assert rows[-1][1] == "\ufffd bad"
    empty = io.BytesIO()
    run(io.BytesIO(b""), empty)
    assert empty.getvalue() == b""


def test_the_command_starts_without_heavy_imports() -> None:
    code = "import sys, lipservice_dagster.templates_command; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "pandas", "dagster", "sqlalchemy"} & set(loaded)
