from __future__ import annotations

import itertools
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN
from sklearn.feature_extraction.text import TfidfTransformer

from lipservice_dagster.core import clustering
from lipservice_dagster.core.clustering import cluster
from lipservice_dagster.core.clustering_words import LABEL_CHARACTERS, label, words
from lipservice_dagster.core.frames import CLUSTERS, SIGNATURES, empty
from lipservice_sampler.text import signature

DAY = date(2026, 3, 18)

TEMPLATES = [
    ("checkout", "payment gateway <*> timed out after <*>", 50),
    ("checkout", "payment gateway timed out, retry <*> of <*>", 70),
    ("checkout", "payment gateway timed out for order <*>", 10),
    ("checkout", "cart <*> restored from cookie", 30),
    ("mailer", "smtp relay <*> refused recipient <*>", 5),
    ("mailer", "smtp relay <*> refused sender <*>", 9),
    ("mailer", "<*>", 3),
    ("mailer", "<*> <*>", 2),
]


def frame(rows: list[tuple[str, str, int]], environment: str = "prod") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "team_id": 7,
            "day": DAY,
            "service": [s for s, _, _ in rows],
            "environment": environment,
            "signature": [signature(s, t) for s, t, _ in rows],
            "template": [t for _, t, _ in rows],
            "logs": [n for _, _, n in rows],
            "bytes": [n * 100 for _, _, n in rows],
            "weighted_logs": [n * 2.5 for _, _, n in rows],
            "severities": [np.array([0, 0, n - 1, 0, 1, 0]) for _, _, n in rows],
        }
    )


def family_of(clusters: pd.DataFrame) -> dict[str, str]:
    return {s: row.cluster for row in clusters.itertuples() for s in row.signatures}


def same(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    return bool(a.astype(str).equals(b.astype(str)))


def test_words_are_split_at_case_dots_and_underscores_and_variables_are_no_words():
    assert words("getHTTPUser_by.id=<*> took 15ms x") == ["get", "http", "user", "by", "id", "took", "ms"]
    assert words("<*> 42 <*>") == []


def test_templates_that_say_nearly_the_same_are_one_family_with_their_words_as_label():
    clusters = cluster(frame(TEMPLATES))
    first = clusters.iloc[0]
    assert list(clusters.columns) == list(CLUSTERS)
    assert first["label"] == "payment gateway timed out"
    assert first["size"] == 3
    assert first["template"] == "payment gateway timed out, retry <*> of <*>"
    assert first["representative"] == signature("checkout", first["template"])
    assert first["signatures"] == sorted(first["signatures"])
    assert first["services"] == ["checkout"]
    assert (clusters["size"] == 2).sum() == 1


def test_every_signature_is_in_one_family_and_counts_are_kept():
    rows = frame(TEMPLATES)
    clusters = cluster(rows)
    members = [s for group in clusters["signatures"] for s in group]
    assert sorted(members) == sorted(rows["signature"])
    assert clusters["logs"].sum() == rows["logs"].sum()
    assert clusters["bytes"].sum() == rows["bytes"].sum()
    assert clusters["weighted_logs"].sum() == rows["weighted_logs"].sum()
    assert np.array_equal(
        np.sum(clusters["severities"].to_list(), axis=0), np.sum(rows["severities"].to_list(), axis=0)
    )


def test_templates_without_a_word_stay_single_and_have_a_label():
    clusters = cluster(frame(TEMPLATES))
    wordless = clusters[clusters["template"].isin(["<*>", "<*> <*>"])]
    assert wordless["size"].tolist() == [1, 1]
    assert clusters["cluster"].is_unique
    assert (cluster(frame([("a", "", 1), ("a", "<*>", 1)]))["label"].str.len() > 0).all()


def test_a_signature_in_two_environments_counts_once():
    rows = pd.concat([frame(TEMPLATES), frame(TEMPLATES, "staging")])
    clusters = cluster(rows)
    assert clusters["size"].sum() == len(TEMPLATES)
    assert clusters["logs"].sum() == 2 * sum(n for _, _, n in TEMPLATES)


def test_no_signatures_give_an_empty_frame_and_two_team_days_an_error():
    assert list(cluster(empty(SIGNATURES)).columns) == list(CLUSTERS)
    two = pd.concat([frame(TEMPLATES), frame(TEMPLATES).assign(team_id=8)])
    with pytest.raises(ValueError, match="one team-day"):
        cluster(two)


def test_the_name_of_a_family_outlives_another_leader():
    before = family_of(cluster(frame(TEMPLATES)))
    after = family_of(cluster(frame([(s, t, 1000 if "order" in t else n) for s, t, n in TEMPLATES])))
    assert after == before


def test_the_name_of_a_family_follows_its_members_as_often_as_they_overlap():
    """Of two days' families with 8 of 12 members in common two thirds keep their name, whatever else there is."""
    letters = [f"{a}{b}" for a in "abcdefghij" for b in "klmno"]
    followed = 0
    for c in letters:
        members = [("s", f"{c}one {c}two {c}three tail{c}{end}", 1) for end in "zyxwvutsrqpo"]
        first, second = (family_of(cluster(frame([*part, *TEMPLATES]))) for part in (members[:10], members[2:]))
        kept = [first[signature(s, t)] == second[signature(s, t)] for s, t, _ in members[2:10]]
        assert len(set(kept)) == 1
        followed += kept[0]
    assert 0.5 <= followed / len(letters) <= 0.83


def test_of_a_family_that_falls_in_two_one_part_keeps_the_name():
    rows = frame(TEMPLATES)
    name = family_of(cluster(rows))[signature(*TEMPLATES[0][:2])]
    parts = {family_of(cluster(frame([row])))[signature(*row[:2])] for row in TEMPLATES[:3]}
    assert name in parts
    assert len(parts) == 3


LABELS = [
    (["Failed to renew lease for [<*>] for <*> seconds. Will retry"], "Failed to renew lease seconds Will retry"),
    (["disk <*> is full", "disk <*> is full on <*>", "disk <*> almost full"], "disk is full"),
    (["uid <*> user", "authentication failure; uid=<*> user=<*>"], "authentication failure uid user"),
    (["<*> of <*>"], "of"),
    (["<*> <*>"], "<*> <*>"),
    ([""], "(empty message)"),
]


@pytest.mark.parametrize(("templates", "expected"), LABELS)
def test_a_label_is_made_of_the_words_that_members_share(templates, expected):
    assert label(templates, [words(t) for t in templates]) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.sampled_from("ab <*>_.é9A"), max_size=30), min_size=1, max_size=4))
def test_a_label_is_never_empty_and_has_no_variable_where_there_is_a_word(templates):
    bags = [words(t) for t in templates]
    made = label(templates, bags)
    assert made.strip()
    assert not bags[0] or "<*>" not in made


def test_a_service_draws_its_templates_together_but_does_not_keep_others_out():
    alike = [("a", "worker pool resized to <*>", 1), ("b", "worker pool resized to <*> threads", 1)]
    assert len(cluster(frame(alike))) == 1
    far = [("a", "session opened for <*>", 1), ("b", "session <*> dropped packet late", 1)]
    assert len(cluster(frame(far))) == 2


VOCABULARY = ["open", "close", "file", "socket", "user", "login", "failed", "retry", "cache", "miss"]
BAGS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.lists(st.sampled_from([*VOCABULARY, "<*>"]), min_size=1, max_size=5).map(" ".join),
    ),
    min_size=1,
    max_size=25,
    unique=True,
)


@settings(max_examples=40, deadline=None)
@given(BAGS, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(pairs, random):
    rows = frame([(s, t, 1 + len(t) % 5) for s, t in pairs])
    shuffled = list(range(len(rows)))
    random.shuffle(shuffled)
    assert same(cluster(rows), cluster(rows.iloc[shuffled]))


def test_sums_of_broken_weights_are_the_same_in_whatever_order_their_rows_come():
    rows = pd.concat(
        [frame(TEMPLATES[:3], env).assign(weighted_logs=w) for env, w in zip("abc", [0.1, 0.2, 0.3], strict=True)]
    )
    sums = {
        tuple(cluster(rows.iloc[list(order)])["weighted_logs"])
        for order in itertools.permutations(range(0, len(rows), 3))
    }
    assert len(sums) == 1
    assert 0.1 + 0.2 + 0.3 != 0.3 + 0.2 + 0.1


@settings(max_examples=40, deadline=None)
@given(BAGS)
def test_families_are_those_of_dbscan_over_all_distances(pairs):
    """The forest of neighbours, made block by block from rare words, must lose nothing against the whole matrix."""
    nodes = sorted({(s, tuple(sorted(words(t)))) for s, t in pairs if words(t)})
    if len(nodes) < 2:
        return
    counts = clustering._count_matrix([bag for _, bag in nodes])
    tfidf = TfidfTransformer(norm="l2", smooth_idf=True, sublinear_tf=True).fit_transform(counts).toarray()
    service = np.array([s for s, _ in nodes])
    weight = clustering.SERVICE_WEIGHT
    distance = 1 - (1 - weight) * tfidf @ tfidf.T - weight * (service[:, None] == service[None, :])
    for eps in (0.3, clustering.EPS):
        # Distances that equal eps but for rounding may fall either way.
        if (np.abs(distance - eps) < 1e-9).any():
            continue
        whole = DBSCAN(eps=eps, min_samples=2, metric="precomputed").fit_predict(np.maximum(distance, 0))
        forest = clustering._neighbour_forest(
            clustering.scipy.sparse.csr_matrix(tfidf),
            np.unique(service, return_inverse=True)[1],
            clustering.EPS,
            weight,
        )
        ours = clustering._dbscan(forest, eps)
        assert np.array_equal(whole, ours)


def test_blocks_do_not_change_the_forest(monkeypatch):
    rng = np.random.default_rng(5)
    rows = frame([(f"s{i % 3}", " ".join(rng.choice(VOCABULARY, 4)) + f" v{i % 7}x", 1) for i in range(150)])
    rows = rows.drop_duplicates("signature")
    once = cluster(rows)
    monkeypatch.setattr(clustering, "_BLOCK_PAIRS", 200)
    assert same(once, cluster(rows))


@pytest.mark.parametrize("others", [20, 100])
@pytest.mark.parametrize("frame_of", ["payment gateway timed out for {}", "tenant {} synced", "user {} logged in"])
def test_a_family_stays_whole_however_large_a_share_of_the_day_it_is(frame_of, others):
    """A template for each of so many rare words, beside templates that share nothing with any other."""
    rng = np.random.default_rng(4)
    rare = iter(dict.fromkeys("".join(rng.choice(list("bcdfghklmnprstvz"), 7)) for _ in range(1_000)))
    noise = [("a", " ".join(next(rare) for _ in range(4)), 1) for _ in range(others)]
    members = [("a", frame_of.format(next(rare)), 1) for _ in range(320)]
    for k in (5, 40, 80, 160, 320):
        sizes = cluster(frame([*members[:k], *noise]))["size"]
        assert sizes.tolist() == [k, *[1] * others] or sorted(sizes)[-2:] == [1, k]


def test_a_chain_is_cut_into_families_that_hang_together():
    """Thirty pairs of near templates, each pair bridged to the next: one chain to DBSCAN, whose ends share nothing."""
    letters = "abcdefghijklmnopqrstuvwxyzäöüß"
    groups = [[f"{c}one", f"{c}two", f"{c}three"] for c in letters]
    rows = [("a", " ".join([*group, end + c]), 1) for c, group in zip(letters, groups, strict=True) for end in "yz"]
    rows += [("a", " ".join([*a[1:], *b[:2]]), 1) for a, b in itertools.pairwise(groups)]
    clusters = cluster(frame(rows))
    assert clusters["size"].max() <= 6
    family = family_of(clusters)
    for first, second in zip(rows[:60:2], rows[1:60:2], strict=True):
        assert family[signature("a", first[1])] == family[signature("a", second[1])]


def test_noise_stays_single_beside_a_family_and_is_never_one_lump():
    """Templates of their own words and of some that all of them use; the family among them is found all the same."""
    rng = np.random.default_rng(8)
    own = ["".join(rng.choice(list("bcdfghklmnprstvz"), 6)) for _ in range(900)]
    noise = [("a", " ".join([*own[3 * i : 3 * i + 3], *rng.choice(VOCABULARY, 3)]), 1) for i in range(300)]
    clusters = cluster(frame([*noise, *TEMPLATES[:3]]))
    assert clusters.iloc[0]["label"] == "payment gateway timed out"
    sizes = [len(group) for group in clusters["signatures"]]
    assert sorted(sizes)[-2:] == [1, 3]


@pytest.mark.parametrize("template", ["x" * 5_000, "<*>" * 2_000, f"upload of {'y' * 300} to {'z' * 300} failed"])
def test_a_label_is_short_however_long_a_word_is(template: str):
    made = label([template], [words(template)])
    assert 0 < len(made) <= LABEL_CHARACTERS
    assert made.endswith("…")
