"""The decision: order of its steps, what reads like an error, and the keep test."""

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lipservice_sampler.decision as decision
from lipservice_sampler.decision import decide, error_like, expected_kept, indexed, keeps, severity_name
from lipservice_sampler.masks import mask

POLICY: dict[str, Any] = {
    "global_rate": 0.05,
    "severity_rates": {"info": 0.2, "error": 1.0, "fatal": 1.0},
    "pattern_rates": [{"signature": "a" * 16, "rate": 0.1}, {"signature": "b" * 16, "rate": 0.5}],
    "unknown": {"first_per_hour": 3, "then": "severity"},
}

# Raw messages, each with whether it reads like an error.
REPORTS = [
    "java.io.IOException: broken pipe",
    "NullPointerException in handler",
    "TypeError: x is not a function",
    "kernel panic - not syncing",
    "Traceback (most recent call last)",
    "stack trace follows",
    "segfault at 0 ip 00007f",
    "Out of memory: killed process 3",
    "java.lang.OutOfMemoryError: heap",
    "FATAL: database is starting up",
    "Job 10 failed",
    "worker 0 failed",
    "partition 0 failed to sync",
    "failed=3 passed=0",
    "10 errors",
    "100 failures in suite",
    "12 passed, 0 skipped, 1 failed",
    "errors=0 failed=2",
    "failed: no route to host",
    "failed: 0 of 3 replicas acked",
    "host not found error",
    "error: 0x80070005",
    '{"error":"timeout","code":3}',
    "level=error msg=x",
    "exception: none of the replicas answered",
    "no errors in A but B failed",
    "upstream timed out",
    "connect() (111: Connection refused)",
    "unhandled promise rejection",
    "Login failed: <*>",
    "Job <*> failed",
    "<*> failed",
    "Error: <*>",
    "IOError: disk full",
    "OSError 28 no space left",
    "HTTPError 503 from upstream",
    "SSLError certificate verify",
    "EOFError",
    "DBError: lost",
    "PAYMENT_FAILED order=3",
    "job_failed id=3",
    "jobs_failed=3",
    "db_error: lost",
    "error_code=E42",
    '{"errorCode":"E42"}',
    "MySQL_ERROR gone away",
    "rollback failed/aborted",
    "could not connect to server",
    "Unable to open /a",
    "ERR timeout",
    "err=EOF",
    "connect ECONNREFUSED 10.0.0.1",
    "errno=ENOSPC",
    "getaddrinfo EAI_AGAIN db",
    "unexpected EOF",
    "request error=nil pointer dereference",
    "error=null reference in handler",
    "error: null pointer: at Foo",
    "error=<*> pointer dereference",
]
CALM = [
    "user logged in",
    "failed=0",
    "failed=0 passed=3",
    "passed: 3, failed: 0",
    "errors: 0 failed: 0",
    "0 errors",
    "found 0 errors",
    "12 passed, 0 failed",
    "completed with 0 validation errors",
    "no errors",
    "no fatal errors",
    "without any errors",
    "not an error",
    "never failed",
    "non-fatal, going on",
    "error-free",
    "error count: 0",
    "error rate: 0%",
    '{"error":null,"a":1}',
    '{"errors":[]}',
    '{"failed":false}',
    'error=""',
    "error_rate=0.1",
    "on_error handler registered",
    "error-handler installed",
    "error.log rotated",
    "GET /errors/404",
    "pass/fail",
    "fail-safe mode",
    "failover done",
    "fail2ban started",
    "ExceptionHandler registered",
    "terror, mirror",
    "<*> errors",
    "failed=<*>",
    '{"error":<*>,"id":<*>}',
    "error=nil",
    "error=nil user=3",
    "error=null",
    "err=nil, done",
    "errors=0",
    "finished without error",
    "jobs_failed=0 jobs_done=3",
    "requests_failed=<*>",
    "error_code=0",
    '{"errorCode":null,"errorMessage":""}',
    "error_code=<*>",
    "max_errors=3",
    "calling handle_error(x)",
    "stderr closed",
    "enough renovated files",
    "could not be happier",
]


@pytest.mark.parametrize("message", REPORTS)
def test_messages_that_report_an_error_are_error_like(message):
    assert error_like(message)


@pytest.mark.parametrize("message", CALM)
def test_negations_names_and_masked_values_are_not_error_like(message):
    assert not error_like(message)


@pytest.mark.parametrize("message", CALM)
def test_masking_does_not_make_a_calm_message_error_like_where_its_value_was_all_that_said_so(message):
    assert not error_like(mask(message))


def test_every_word_of_the_error_rules_is_reached_by_its_stem():
    # A stem that is not in what its expression matches would rule the expression out unseen.
    samples = {
        "error": ["errored", "ValueError", "IOError", "db_error", "error_code="],
        "exception": ["Exceptions"],
        "fail": ["failing", "job_failed", "failed/aborted"],
        "fatal": ["fatally"],
        "panic": ["panicked"],
        "traceback": ["tracebacks"],
        "stack": ["stacktrace"],
        "crash": ["CrashLoopBackOff"],
        "segfault": ["segfaulted"],
        "segmentation": ["segmentation violation"],
        "sigsegv": ["SIGSEGV"],
        "core dump": ["core dumped"],
        "memory": ["out-of-memory"],
        "outofmemory": ["OutOfMemory"],
        "oom": ["oom-killer", "OOMKilled"],
        "deadlock": ["deadlocked"],
        "unhandled": ["unhandled"],
        "uncaught": ["uncaught"],
        "abort": ["aborted", "aborted/failed"],
        "timed out": ["timed out"],
        "refused": ["connection refused"],
        "reset by peer": ["reset by peer"],
        "err": ["ERR"],
        "could": ["could not connect", "couldn't open"],
        "cannot": ["cannot bind"],
        "unable": ["unable to read"],
        "unexpected": ["unexpected EOF", "unexpected end of input"],
        "econn": ["ECONNREFUSED", "ECONNRESET", "ECONNABORTED"],
        "unreach": ["EHOSTUNREACH", "ENETUNREACH"],
        "etimedout": ["ETIMEDOUT"],
        "eno": ["ENOENT", "ENOSPC", "ENOTFOUND"],
        "eaddr": ["EADDRINUSE", "EADDRNOTAVAIL"],
        "eai_": ["EAI_AGAIN"],
        "emfile": ["EMFILE"],
        "enfile": ["ENFILE"],
        "epipe": ["EPIPE"],
        "eacces": ["EACCES"],
        "eperm": ["EPERM"],
        "einval": ["EINVAL"],
        "erofs": ["EROFS"],
        "edquot": ["EDQUOT"],
        "eproto": ["EPROTO"],
        "eio": ["EIO"],
    }
    assert set(samples) == {stem for stem, _ in decision.ERROR_LIKE}
    for words in samples.values():
        for word in words:
            assert error_like(f"x: {word} in y"), word


def test_errors_are_kept_whole_whatever_the_document_says():
    policy = {**POLICY, "severity_rates": {"error": 0.1, "fatal": 0.1}}
    for severity in ("error", "fatal", "ERROR", "CRITICAL", "Err", "emerg"):
        assert decide(policy, severity, "a" * 16, False) == (1.0, "error")


def test_error_like_messages_come_before_the_pattern_rate():
    assert decide(POLICY, "debug", "a" * 16, True) == (1.0, "error_like")
    assert decide(POLICY, "debug", "a" * 16, False) == (0.1, "pattern")


def test_the_first_unknown_logs_of_an_hour_are_kept_then_the_severity_decides():
    for signature in (None, "c" * 16):
        seen = [decide(POLICY, "info", signature, False, unknown_seen=n) for n in range(5)]
        assert seen == [(1.0, "unknown")] * 3 + [(0.2, "severity")] * 2


def test_a_severity_without_a_rate_gets_the_global_rate():
    assert decide(POLICY, "warn", None, False, unknown_seen=3) == (0.05, "global")
    assert decide({"global_rate": 0.3}, "info", "a" * 16, False) == (0.3, "global")


def test_a_document_without_a_global_rate_is_refused_where_it_is_needed():
    with pytest.raises(KeyError, match="global_rate"):
        decide({}, "info", None, False)


@given(
    st.sampled_from(["trace", "debug", "info", "warn", "error", "fatal", "Warning", "nonsense"]),
    st.sampled_from([None, "a" * 16, "b" * 16, "c" * 16]),
    st.booleans(),
    st.integers(0, 6),
)
def test_an_indexed_policy_decides_as_the_document(severity, signature, like, seen):
    args = (severity, signature, like)
    assert decide(indexed(POLICY), *args, unknown_seen=seen) == decide(POLICY, *args, unknown_seen=seen)


def test_indexing_twice_changes_nothing():
    assert indexed(indexed(POLICY)) == indexed(POLICY)


@given(
    st.sampled_from(["debug", "info", "error"]),
    st.sampled_from([None, "a" * 16]),
    st.booleans(),
    st.lists(st.integers(0, 12), max_size=24),
)
def test_expected_kept_is_the_sum_of_the_rates_of_single_logs(severity, signature, like, hours):
    single = sum(decide(POLICY, severity, signature, like, unknown_seen=n).rate for logs in hours for n in range(logs))
    assert expected_kept(POLICY, severity, signature, like, hours) == pytest.approx(single)


def test_severities_are_read_in_the_spellings_of_loggers():
    spelled = {"WARNING": "warn", " Info ": "info", "CRITICAL": "fatal", "err": "error", "TRACE": "trace", "": "info"}
    assert {text: severity_name(text) for text in spelled} == spelled


def test_short_names_of_severities_are_read():
    assert {severity_name(f"ERROR{step}") for step in ("", 2, 3, 4)} == {"error"}
    assert {severity_name(f"{name}4") for name in ("TRACE", "DEBUG", "INFO", "WARN", "FATAL")} == {
        *("trace", "debug", "info", "warn", "fatal")
    }
    short = {"E": "error", "F": "fatal", "W": "warn", "I": "info", "D": "debug", "FTL": "fatal", "Fault": "fatal"}
    assert {text: severity_name(text) for text in short} == short
    assert severity_name("ERROR5") == "info"


@given(st.binary(max_size=32), st.floats(0, 1), st.floats(0, 1))
def test_a_key_kept_at_a_rate_is_kept_at_any_higher_one(key, a, b):
    low, high = sorted((a, b))
    assert keeps(high, key) or not keeps(low, key)


@given(st.binary(max_size=32))
def test_rate_one_keeps_and_rate_zero_drops_every_key(key):
    assert keeps(1.0, key)
    assert not keeps(0.0, key)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
def test_keys_are_kept_at_the_rate(rate):
    keys = 20_000
    kept = sum(keeps(rate, str(i).encode()) for i in range(keys))
    assert abs(kept - keys * rate) < 4 * (keys * rate * (1 - rate)) ** 0.5


def test_the_same_key_is_kept_the_same_in_every_version_of_python():
    kept = [i for i in range(8) if keeps(0.5, str(i).encode())]
    assert kept == [2, 4, 6]


def test_the_module_needs_the_standard_library_only():
    imported = {name for name, value in vars(decision).items() if type(value) is type(sys)}
    assert imported <= {"hashlib", "re"}
