"""The rules advisor: what it makes of templates, severities and families."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lipservice_dagster.advisors.rules import RULES, advise, judge
from lipservice_dagster.core import frames
from lipservice_dagster.core.judgements import CATEGORIES, WORTH, Judgement

NO_CLUSTERS = frames.empty(frames.CLUSTERS)


def _signatures(*rows: tuple[str, str, str, int]) -> pd.DataFrame:
    """Rows of (signature, template, severity, logs)."""
    return pd.DataFrame(
        {
            "signature": [row[0] for row in rows],
            "template": [row[1] for row in rows],
            "severities": [[row[3] * (name == row[2]) for name in frames.SEVERITIES] for row in rows],
        }
    )


@pytest.mark.parametrize(
    ("template", "severity", "category", "level"),
    [
        ("GET /healthz <*> <*>", "info", "health_check", "noise"),
        ("readiness probe ok", "info", "health_check", "noise"),
        ("heartbeat from <*>", "debug", "health_check", "noise"),
        ("GET <*> HTTP/<*> <*> <*>", "info", "access_log", "low"),
        ("request completed in <*>", "info", "access_log", "low"),
        ("audit: user <*> opened <*>", "info", "audit", "must_keep"),
        ("role <*> granted to <*>", "info", "audit", "must_keep"),
        ("user <*> logged in", "info", "security", "high"),
        ("POST /login user=<*>", "info", "security", "high"),
        ("permission denied for <*>", "warn", "security", "high"),
        ("session opened for user root by (uid=<*>)", "info", "security", "high"),
        ("startup of <*> complete", "info", "other", "normal"),
        ("payment <*> captured", "info", "billing", "high"),
        ("order <*> created", "info", "business_event", "high"),
        ("cache miss for <*>", "info", "debug", "noise"),
        ("acquired lock <*>", "debug", "debug", "noise"),
        ("slow heartbeat from <*>", "warn", "health_check", "normal"),
        ("unhandled exception in <*>", "info", "error", "must_keep"),
        ("GET /healthz <*>", "error", "error", "must_keep"),
        ("rebalanced <*> shards", "trace", "debug", "noise"),
        ("rebalanced <*> shards", "debug", "debug", "low"),
        ("rebalanced <*> shards", "info", "other", "normal"),
        ("rebalanced <*> shards", "warn", "other", "high"),
    ],
)
def test_templates_are_judged_by_their_words_and_severity(template, severity, category, level):
    (judgement,) = advise(_signatures(("a" * 16, template, severity, 5)), NO_CLUSTERS)
    assert (judgement.category, judgement.level) == (category, level)
    assert judgement.worth == WORTH[level]


@pytest.mark.parametrize(
    "template",
    ["shipping rates loaded", "stopping workers", "reauditioned tracks", "recharged <*>", "targeting <*> cohorts"],
)
def test_a_keyword_inside_another_word_does_not_count(template):
    assert judge("a" * 16, template, "info").category == "other"


def test_a_template_no_rule_knows_is_judged_with_its_family():
    clusters = pd.DataFrame({"label": ["health check"], "signatures": [["a" * 16, "b" * 16]]})
    signatures = _signatures(("a" * 16, "backend <*> is up", "info", 5), ("c" * 16, "backend <*> is up", "info", 5))
    in_family, alone = advise(signatures, clusters)
    assert (in_family.category, in_family.worth) == ("health_check", WORTH["noise"])
    assert in_family.reason.startswith("Of its family:")
    assert alone.category == "other"


def test_a_signature_in_two_environments_is_judged_once_by_all_its_logs():
    rows = _signatures(("a" * 16, "resized <*>", "info", 10), ("a" * 16, "resized <*>", "error", 11))
    (judgement,) = advise(rows, NO_CLUSTERS)
    assert judgement.category == "error"


def test_the_severity_of_most_logs_counts_and_of_two_alike_the_higher():
    rows = pd.DataFrame(
        {"signature": ["a", "b"], "template": ["x y", "x z"], "severities": [[0, 0, 9, 0, 1, 0], [0, 0, 4, 4, 0, 0]]}
    )
    mostly_info, warn = advise(rows, NO_CLUSTERS)
    assert (mostly_info.worth, warn.worth) == (WORTH["normal"], WORTH["high"])


def test_nothing_to_judge_gives_no_judgements():
    assert advise(frames.empty(frames.SIGNATURES), NO_CLUSTERS) == []


@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_decide(random):
    rows = [
        ("a" * 16, "GET /healthz", "info", 1),
        ("b" * 16, "order <*> created", "info", 2),
        ("c" * 16, "backend <*> is up", "warn", 3),
    ]
    clusters = pd.DataFrame({"label": ["audit trail", "billing run"], "signatures": [["c" * 16], ["c" * 16]]})
    expected = advise(_signatures(*rows), clusters)
    random.shuffle(rows)
    assert advise(_signatures(*rows), clusters.iloc[::-1]) == expected


def test_every_rule_has_a_known_category_and_a_sentence():
    for rule in RULES:
        assert rule.category in CATEGORIES
        assert rule.level in WORTH
        assert rule.reason.endswith(".")


@pytest.mark.parametrize(("worth", "number"), [("noise", 0.1), ("must_keep", 1.0), (0.5, 0.5)])
def test_a_judgement_takes_worth_as_number_or_level(worth, number):
    assert Judgement(signature="a", worth=worth, category="other", reason="r").worth == number


@pytest.mark.parametrize("worth", ["huge", 1.1, -0.1, float("nan")])
def test_a_worth_out_of_bounds_is_refused(worth):
    with pytest.raises(ValidationError, match="worth"):
        Judgement(signature="a", worth=worth, category="other", reason="r")


@pytest.mark.parametrize(("worth", "level"), [(0.0, "noise"), (0.15, "low"), (0.69, "normal"), (0.99, "high")])
def test_the_level_of_a_worth_is_the_highest_it_reaches(worth, level):
    assert Judgement(signature="a", worth=worth, category="other", reason="r").level == level
