"""The optimiser: against a general solver, and the laws of its rates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from lipservice_dagster.core.sampling import optimise


@st.composite
def problems(draw, most: int = 8):
    """Patterns with logs, cost, worth, floors, pins and ceilings, and a budget from nothing to more than all."""
    size = draw(st.integers(1, most))

    def column(values):
        return np.array(draw(st.lists(values, min_size=size, max_size=size)))

    logs = column(st.integers(1, 10**7)).astype(float)
    bytes_ = logs * column(st.integers(1, 5_000))
    worth = column(st.floats(0.01, 1.0))
    floor = column(st.sampled_from([0.0, 0.001, 0.01, 0.2, 1.0]))
    pinned = column(st.sampled_from([False, False, False, True]))
    budget = draw(st.floats(0.0, 1.2)) * bytes_.sum()
    ceiling = np.maximum(column(st.sampled_from([1.0, 1.0, 0.5, 0.05])), floor)
    return logs, bytes_, worth, floor, pinned, budget, ceiling


def _loss(rates, logs, worth):
    return float(np.sum(worth * (1 / rates - 1) / logs))


@pytest.mark.parametrize("seed", range(12))
def test_no_rates_that_a_general_solver_finds_estimate_the_counts_better(seed):
    random = np.random.default_rng(seed)
    size = 5
    logs = random.integers(10, 5_000, size).astype(float)
    bytes_ = logs * random.integers(20, 400, size)
    worth = random.uniform(0.05, 1.0, size)
    floor = random.uniform(0.005, 0.1, size)
    ceiling = np.where(random.random(size) < 0.3, 0.3, 1.0)
    budget = float(random.uniform(0.15, 0.8)) * float(bytes_ @ ceiling)
    found = optimise(logs, bytes_, worth, floor, np.zeros(size, bool), budget, ceiling)
    start = np.clip(np.full(size, budget / bytes_.sum()), floor, ceiling)
    scale = _loss(start, logs, worth)
    solved = minimize(
        lambda p: _loss(p, logs, worth) / scale,
        start,
        method="SLSQP",
        bounds=list(zip(floor, ceiling, strict=True)),
        constraints={"type": "ineq", "fun": lambda p: 1.0 - float(bytes_ @ p) / budget},
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert float(bytes_ @ solved.x) <= budget * (1 + 1e-6)
    assert _loss(found.rates, logs, worth) <= _loss(solved.x, logs, worth) * (1 + 1e-6)
    np.testing.assert_allclose(found.rates, solved.x, rtol=2e-2)


def test_without_bounds_kept_logs_go_with_the_root_of_worth_over_bytes_a_log():
    logs, per_log, worth = np.array([1e6, 1e5, 1e5]), np.array([100.0, 100.0, 400.0]), np.array([0.4, 0.1, 0.1])
    found = optimise(logs, logs * per_log, worth, np.zeros(3), np.zeros(3, bool), 1e6)
    kept = found.rates * logs
    np.testing.assert_allclose(kept / kept[1], [2.0, 1.0, 0.5])


@given(problems())
def test_rates_lie_between_floor_and_ceiling_and_pinned_are_whole(problem):
    _, _, _, floor, pinned, _, ceiling = problem
    rates = optimise(*problem).rates
    assert (rates >= floor).all()
    assert (rates <= np.where(pinned, 1.0, ceiling)).all()
    assert (rates[pinned] == 1.0).all()


@given(problems())
def test_the_budget_in_force_is_spent_to_the_byte_and_never_passed(problem):
    _, bytes_, _, floor, pinned, budget, ceiling = problem
    found = optimise(*problem)
    need = float(bytes_ @ np.where(pinned, 1.0, floor))
    most = float(bytes_ @ np.where(pinned, 1.0, ceiling))
    assert found.in_force == pytest.approx(max(budget, need))
    assert found.shortfall == pytest.approx(max(need - budget, 0.0))
    assert found.spent == pytest.approx(min(found.in_force, most), rel=1e-9)
    assert found.spent == pytest.approx(float(bytes_ @ found.rates))


@given(problems(), st.floats(1.0, 3.0))
def test_no_rate_falls_when_the_budget_rises(problem, times):
    logs, bytes_, worth, floor, pinned, budget, ceiling = problem
    less, more = optimise(*problem), optimise(logs, bytes_, worth, floor, pinned, budget * times, ceiling)
    assert (more.rates >= less.rates * (1 - 1e-12)).all()


@given(problems(), st.floats(1e-3, 1e3))
def test_only_the_proportions_of_worth_matter(problem, times):
    logs, bytes_, worth, floor, pinned, budget, ceiling = problem
    scaled = optimise(logs, bytes_, worth * times, floor, pinned, budget, ceiling)
    np.testing.assert_allclose(scaled.rates, optimise(*problem).rates, rtol=1e-9)


@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_the_patterns_does_not_decide(problem, random):
    logs, bytes_, worth, floor, pinned, budget, ceiling = problem
    order = list(range(len(logs)))
    random.shuffle(order)
    shuffled = optimise(logs[order], bytes_[order], worth[order], floor[order], pinned[order], budget, ceiling[order])
    np.testing.assert_allclose(shuffled.rates, optimise(*problem).rates[order], rtol=1e-9)


def test_floors_beyond_the_budget_set_the_budget_in_force():
    found = optimise([100, 100], [1000, 1000], [1, 1], [0.5, 0.3], [False, True], 600.0)
    assert found.rates.tolist() == [0.5, 1.0]
    assert (found.in_force, found.shortfall) == (1500.0, 900.0)


def test_what_is_worth_nothing_stays_at_its_floor_even_with_budget_left():
    found = optimise([100, 100], [1000, 1000], [0, 1], [0.1, 0.1], [False, False], 1900.0)
    assert found.rates.tolist() == [0.1, 1.0]
    assert found.spent == 1100.0


def test_patterns_without_logs_or_bytes_get_rate_one_and_cost_nothing():
    found = optimise([0, 10, 100], [0, 0, 1000], [1, 1, 1], [0.1, 0.1, 0.1], [False] * 3, 500.0)
    assert found.rates.tolist() == pytest.approx([1.0, 1.0, 0.5])


def test_no_patterns_give_no_rates():
    found = optimise([], [], [], [], [], 10.0)
    assert (len(found.rates), found.spent, found.in_force) == (0, 0.0, 10.0)


def test_a_hundred_thousand_patterns_spend_the_budget():
    random = np.random.default_rng(7)
    logs = np.ceil(random.pareto(0.8, 100_000) * 10) + 1
    bytes_ = logs * random.integers(50, 2_000, len(logs))
    found = optimise(
        logs, bytes_, random.uniform(0.02, 1, len(logs)), np.full(len(logs), 1e-6), np.zeros(len(logs)), 1e8
    )
    assert found.spent == pytest.approx(1e8, rel=1e-9)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"logs": [1.0, -2.0]}, r"logs\[1\] is -2.0"),
        ({"cost": [1.0, float("nan")]}, r"cost\[1\] is nan"),
        ({"floor": [1.5, 0.0]}, r"floor\[0\] is 1.5.*from 0 to 1"),
        ({"worth": [1.0]}, r"worth has shape \(1,\), expected shape \(2,\)"),
        ({"pinned": [True]}, r"pinned has shape"),
        ({"budget": -1.0}, "budget is -1.0"),
        ({"ceiling": [1.0, 0.1], "floor": [0.0, 0.2]}, r"ceiling\[1\] is 0.1, below floor\[1\], 0.2"),
    ],
)
def test_values_out_of_bounds_are_refused_by_name_and_row(changed, message):
    good = {
        "logs": [1.0, 2.0],
        "cost": [1.0, 2.0],
        "worth": [1.0, 1.0],
        "floor": [0.0, 0.0],
        "pinned": [False, False],
        "budget": 1.0,
    }
    with pytest.raises(ValueError, match=message):
        optimise(**{**good, **changed})


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_the_variance_that_is_minimised_is_the_one_that_sampling_has(rate):
    logs, trials = 2_000, 4_000
    kept = np.random.default_rng(3).binomial(logs, rate, trials)
    measured = np.var(kept / rate) / logs**2
    assert measured == pytest.approx((1 / rate - 1) / logs, rel=0.1)


@given(problems(), st.data())
def test_raising_floors_raises_no_other_rate(problem, data):
    # Why rates that fall by a ramp stay within what they would be without it: see core.ramp.
    logs, bytes_, worth, floor, pinned, budget, ceiling = problem
    higher = np.array([data.draw(st.floats(float(f), float(u))) for f, u in zip(floor, ceiling, strict=True)])
    before, after = optimise(*problem), optimise(logs, bytes_, worth, higher, pinned, budget, ceiling)
    assert (after.rates <= np.maximum(before.rates, higher) * (1 + 1e-9)).all()


@given(problems(), st.integers(1, 400))
def test_stamps_are_paid_for_and_what_costs_no_less_sampled_than_whole_is_kept_whole(problem, octets):
    logs, bytes_, worth, floor, pinned, budget, ceiling = problem
    stamps = logs * octets
    found = optimise(logs, bytes_, worth, floor, pinned, budget, ceiling, stamps)
    paid = np.where(found.rates == 1.0, bytes_, (bytes_ + stamps) * found.rates)
    assert found.spent == pytest.approx(paid.sum())
    assert found.spent <= found.in_force * (1 + 1e-9)
    useless = (found.rates < 1.0) & (paid >= bytes_ * (1 + 1e-9)) & (ceiling == 1.0) & (found.rates > floor)
    assert not useless.any()
    if found.needed < budget:
        most = np.where(pinned | (ceiling == 1.0), bytes_, (bytes_ + stamps) * ceiling)
        assert found.spent >= min(budget, most.sum()) * (1 - 1e-9) or (floor > bytes_ / (bytes_ + stamps)).any()


@given(problems(), st.integers(1, 400), st.data())
def test_with_stamps_too_raising_floors_raises_no_other_rate(problem, octets, data):
    logs, bytes_, worth, floor, pinned, budget, ceiling = problem
    higher = np.array([data.draw(st.floats(float(f), float(u))) for f, u in zip(floor, ceiling, strict=True)])
    stamps = logs * octets
    before = optimise(logs, bytes_, worth, floor, pinned, budget, ceiling, stamps)
    after = optimise(logs, bytes_, worth, higher, pinned, budget, ceiling, stamps)
    assert (after.rates <= np.maximum(before.rates, higher) * (1 + 1e-9)).all()


def test_where_all_that_could_move_is_kept_whole_for_less_the_rates_are_found():
    found = optimise([1000], [100_000.0], [1.0], [0.01], [False], 100_000.0, stamps=[30_000.0])
    assert (found.rates.tolist(), found.spent) == ([1.0], 100_000.0)
    odd = [0.1 * 1000, 0.7 * 1000, 1.1 * 1000]  # sums to what it does only in one order
    found = optimise([1000] * 3, odd, [1.0] * 3, [0.01] * 3, [False] * 3, sum(odd), stamps=[30_000.0] * 3)
    assert found.rates.tolist() == [1.0] * 3
