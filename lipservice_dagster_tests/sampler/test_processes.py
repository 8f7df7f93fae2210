"""Forks, threads and ends of real processes: no count twice, none lost silently, no lock left held."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time

from lipservice_dagster_tests.sampler.api_stub import Stub, eventually
from lipservice_sampler.sampler import END_SECONDS

BEGIN = """
import logging, os, sys, threading, time
from lipservice_sampler import Sampler, SamplingFilter
import lipservice_sampler.sampler
lipservice_sampler.sampler.END_SECONDS = float(sys.argv[2])
logging.basicConfig(stream=sys.stderr, format="%(message)s")
sampler = Sampler("shop", team_id=1, environment="production", url=sys.argv[1], key="k", timeout=5)
"""


def run(
    stub: Stub, script: str, seconds: float = 60.0, *, end_seconds: float = 50.0
) -> subprocess.CompletedProcess[str]:
    """A process whose last counts may take so long on a busy machine; those of an application have `END_SECONDS`."""
    return subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(script), stub.url, str(end_seconds)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=True,
    )


def test_the_end_of_a_process_delivers_its_last_counts(stub: Stub):
    run(stub, "for i in range(100): sampler.decide(f'order {i} placed')")
    assert stub.seen() == 100


def test_the_end_waits_no_longer_than_its_bound_and_says_what_is_lost(stub: Stub):
    stub.delay = 60.0
    begun = time.monotonic()
    script = "for i in range(100): sampler.decide(f'order {i} placed')\ntime.sleep(.3); print(time.monotonic())"
    done = run(stub, script, end_seconds=END_SECONDS)
    assert time.monotonic() - begun < 30
    assert time.monotonic() - float(done.stdout) < 10
    assert "statistics of 100 logs were not delivered" in done.stderr


def test_many_samplers_end_within_the_bound_of_one(stub: Stub):
    stub.delay = 60.0
    script = """
    more = [Sampler(f"s{i}", team_id=1, url=sys.argv[1], key="k", timeout=60, cache_dir=False) for i in range(8)]
    for one in more: one.decide("order 1 placed")
    time.sleep(.5); print(time.monotonic())
    """
    done = run(stub, script, end_seconds=2.0)
    assert time.monotonic() - float(done.stdout) < 10
    assert done.stderr.count("statistics of 1 logs were not delivered") == 8


def test_a_child_counts_its_own_logs_only_and_has_its_own_thread(stub: Stub):
    script = """
    for i in range(100): sampler.decide(f'order {i} placed')
    for _ in range(3):
        if os.fork() == 0:
            for i in range(10): sampler.decide(f'order {i} placed')
            sampler.close(20)
            os._exit(0)
    for _ in range(3): assert os.wait()[1] == 0
    for i in range(7): sampler.decide(f'order {i} placed')
    """
    done = run(stub, script)
    assert stub.seen() == 137, done.stderr


def test_processes_of_multiprocessing_deliver_at_their_end(stub: Stub):
    script = """
    import multiprocessing
    def work():
        for i in range(10): sampler.decide(f'order {i} placed')
    sampler.decide('order 1 placed')
    children = [multiprocessing.get_context("fork").Process(target=work) for _ in range(3)]
    for c in children: c.start()
    for c in children: c.join()
    """
    done = run(stub, script)
    assert stub.seen() == 31, done.stderr


def test_forks_while_threads_log_leave_no_lock_held(stub: Stub):
    script = """
    logger = logging.getLogger("app"); logger.setLevel("INFO"); logger.propagate = False
    handler = logging.StreamHandler(open(os.devnull, "w")); handler.addFilter(SamplingFilter(sampler))
    logger.addHandler(handler)
    going = True
    def work():
        while going: logger.info("order %d placed", 7)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads: t.start()
    for _ in range(40):
        pid = os.fork()
        if pid == 0:
            for i in range(20): sampler.decide(f'order {i} placed')
            os._exit(0)
        deadline = time.monotonic() + 60
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            assert time.monotonic() < deadline, "the child hangs"
            time.sleep(0.001)
    going = False
    for t in threads: t.join()
    """
    run(stub, script, 240)


def test_children_choose_each_for_themselves(stub: Stub):
    script = """
    from lipservice_dagster_tests.sampler.api_stub import document
    for seed in (None, 5):
        sampler = Sampler("shop", team_id=1, environment="production", url="", policy=document(), seed=seed)
        for _ in range(2):
            if os.fork() == 0:
                print("".join(str(int(sampler.decide("cart 1 priced in 2 ms").keep)) for _ in range(64)), flush=True)
                os._exit(0)
            os.wait()
    """
    assert len(set(run(stub, script).stdout.split())) == 4


def test_a_child_does_not_go_on_with_the_draws_of_its_parent(stub: Stub):
    script = """
    from lipservice_dagster_tests.sampler.api_stub import POLICY, document
    served = document({**POLICY, "pattern_rates": [{"signature": "a" * 16, "template": "tick <*>", "rate": 0.001}]})
    sampler = Sampler("shop", team_id=1, environment="production", url="", policy=served)
    sampler.decide("tick 1")
    for _ in range(4):
        if os.fork() == 0:
            print(next(n for n in range(3000) if sampler.decide("tick 1").keep), flush=True)
            os._exit(0)
        os.wait()
    """
    assert len(set(run(stub, script).stdout.split())) > 1  # the first log that is kept is at any of a thousand places


def test_a_signals_handler_may_log_while_its_thread_counts(stub: Stub):
    script = """
    import signal
    signal.signal(signal.SIGALRM, lambda *_: sampler.decide("order 1 placed"))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    until = time.monotonic() + 1
    while time.monotonic() < until: sampler.decide("order 1 placed")
    signal.setitimer(signal.ITIMER_REAL, 0)
    """
    run(stub, script)
    assert stub.seen() > 100


def test_the_sampler_works_with_the_standard_library_alone(stub: Stub):
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            "import sys; sys.path.insert(0, 'lipservice_sampler/src'); import lipservice_sampler.adapters as a;"
            "print(a.Sampler('s', team_id=1, url='').decide('x').keep)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True\n"


def test_no_thread_begins_before_the_first_log(stub: Stub):
    from lipservice_sampler import Sampler

    before = threading.active_count()
    sampler = Sampler("shop", team_id=1, environment="production", url=stub.url)
    assert threading.active_count() == before
    assert not stub.gets
    sampler.decide("order 1 placed")
    assert eventually(lambda: stub.gets)
    sampler.close()
    assert sampler._worker is not None
    thread = sampler._worker._thread
    assert eventually(lambda: not thread.is_alive())
