"""Clusters: families of labelled systems' patterns beside plain methods, speed and memory on a large day, names."""

from __future__ import annotations

import csv
import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.measure import table, work

SIGNATURES = 50_000
DAY = date(2026, 9, 1)
SHARES = (0.5, 0.8, 0.95)
_HERE = "benchmarks.clusters"


def run(data: Path | None) -> str:
    """The section's Markdown."""
    parts = ["## Clusters"]
    if data is None:
        parts.append("The labelled systems were skipped: no data folder was given.")
    else:
        parts += [_labelled(data), _names(data)]
    parts.append(_large())
    return "\n\n".join(parts)


def _labelled(data: Path) -> str:
    print("families of the labelled systems …")
    rows = signatures_of_systems(messages_by_system(data))
    truth = dict(zip(rows["signature"], rows["system"], strict=True))
    shown = []
    for known in (True, False):
        hidden = rows.assign(service=rows["service"] if known else "")
        for name, method in METHODS.items():
            families = method(hidden)
            shown.append([name, "known" if known else "hidden", *_scores(families, truth)])
    header = ["", "service", "families", "per signature", "homogeneity", "completeness", "V", "largest"]
    return (
        f"The {len(rows)} signatures of eight labelled systems together (our miner's templates, the system as service;"
        " then with the service hidden), judged against the system they come from. A signature left single is a family"
        " of its own. KMeans is told to make as many families as ours:\n\n" + table(header, shown)
    )


def _scores(families: Sequence[Sequence[str]], truth: Mapping[str, str]) -> list[str]:
    from sklearn.metrics import homogeneity_completeness_v_measure

    members = [(truth[s], i) for i, family in enumerate(families) for s in family]
    scores = homogeneity_completeness_v_measure([t for t, _ in members], [i for _, i in members])
    largest = max(len(f) for f in families)
    share = len(families) / len(members)
    return [str(len(families)), f"{share:.2f}", *(f"{s:.3f}" for s in scores), str(largest)]


def ours(rows: pd.DataFrame) -> list[list[str]]:
    """Families as the asset makes them."""
    from lipservice_dagster.core.clustering import cluster

    return [list(members) for members in cluster(rows)["signatures"]]


def plain_dbscan(rows: pd.DataFrame, eps: float, *, service: bool = False) -> list[list[str]]:
    """scikit-learn's TF-IDF and DBSCAN as they come: every word a token (the service one more), no cohesion."""
    from sklearn.cluster import DBSCAN
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = rows["template"].str.replace("<*>", " ", regex=False)
    if service:
        texts = "service_" + rows["service"] + " " + texts
    labels = DBSCAN(eps=eps, min_samples=2, metric="cosine").fit_predict(TfidfVectorizer().fit_transform(texts))
    return _grouped(rows, labels)


def kmeans(rows: pd.DataFrame) -> list[list[str]]:
    """scikit-learn's TF-IDF and KMeans, with as many families as ours."""
    from sklearn.cluster import KMeans
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = "service_" + rows["service"] + " " + rows["template"].str.replace("<*>", " ", regex=False)
    vectors = TfidfVectorizer().fit_transform(texts)
    return _grouped(rows, KMeans(len(ours(rows)), n_init=3, random_state=0).fit_predict(vectors))


def _grouped(rows: pd.DataFrame, labels: np.ndarray) -> list[list[str]]:
    singles = [[s] for s in rows["signature"][labels < 0]]
    return singles + [list(part) for _, part in rows["signature"][labels >= 0].groupby(labels[labels >= 0])]


METHODS: dict[str, Callable[[pd.DataFrame], list[list[str]]]] = {
    "ours": ours,
    "TF-IDF + DBSCAN, eps 0.5": lambda rows: plain_dbscan(rows, 0.5),
    "TF-IDF + DBSCAN, eps 0.6": lambda rows: plain_dbscan(rows, 0.6),
    "TF-IDF + DBSCAN, eps 0.7": lambda rows: plain_dbscan(rows, 0.7),
    "TF-IDF with the service as a word + DBSCAN, eps 0.6": lambda rows: plain_dbscan(rows, 0.6, service=True),
    "TF-IDF with the service as a word + KMeans": kmeans,
}


def _names(data: Path) -> str:
    print("names of families over samples …")
    lines = messages_by_system(data)
    shown = []
    for share in SHARES:
        pairs = []
        for seed in range(5):
            chance = random.Random(seed)
            pair = [{s: chance.sample(m, int(len(m) * share)) for s, m in lines.items()} for _ in range(2)]
            pairs.append(_followed(*map(_family_by_message, pair)))
        found = np.array([f for pair in pairs for f in pair])
        several = found[:, 0] > 1
        shown.append(
            [
                f"{share:.0%}",
                *(f"{found[part, 2].mean():.3f}" for part in (several, ~several)),
                *(f"{found[part, 1].mean():.3f}" for part in (several, ~several)),
            ]
        )
    header = [
        "lines in each",
        "same name, several",
        "same name, single",
        "same members, several",
        "same members, single",
    ]
    return (
        "Names: two random samples of each system's lines, mined and clustered apart (5 seeds). Of the families of the"
        " second, the share that has the name of the family of the first which it shares most masked messages with, and"
        " the share whose members are the same as that one's:\n\n" + table(header, shown)
    )


def _family_by_message(lines: Mapping[str, list[str]]) -> dict[tuple[str, str], tuple[str, int]]:
    """(name, size) of the family of each masked message."""
    from lipservice_dagster.core.clustering import cluster
    from lipservice_dagster.core.signatures import signatures_of

    signatures, members = signatures_of(_raw(lines))
    families = cluster(signatures)
    family = {s: (f.cluster, f.size) for f in families.itertuples() for s in f.signatures}
    return {(m.service, m.message_id): family[m.signature] for m in members.itertuples()}


def _followed(first: Mapping[Any, tuple[str, int]], second: Mapping[Any, tuple[str, int]]) -> list[list[float]]:
    """[size, whether the members are the same, whether the name is] of the second's families, over shared messages."""
    shared = sorted(first.keys() & second.keys())
    names = [[day[m][0] for m in shared] for day in (first, second)]
    pairs = pd.DataFrame({"a": names[0], "b": names[1], "size": [second[m][1] for m in shared]})
    both = pairs.groupby(["a", "b"], as_index=False).agg(n=("a", "size"), size=("size", "first"))
    of_a, of_b = (both[c].map(pairs.groupby(c).size()) for c in "ab")
    both["overlap"] = both["n"] / (of_a + of_b - both["n"])
    best = both.sort_values(["overlap", "a"], ascending=[False, True]).drop_duplicates("b")
    return np.column_stack([best["size"], best["overlap"] == 1, best["a"] == best["b"]]).astype(float).tolist()


def _large() -> str:
    print(f"a day of {SIGNATURES:,} signatures …")
    shown = []
    for size in (SIGNATURES // 10, SIGNATURES):
        found = work(f"{_HERE}:large_day", size)
        told = found.answer
        shown.append(
            [
                f"{size:,}",
                f"{told['seconds']:.1f}",
                f"{told['processor']:.1f}",
                f"{found.peak / 1e6:,.0f}",
                f"{told['families']:,}",
                f"{told['largest']:,}",
                f"{told['homogeneity']:.3f}",
                f"{told['completeness']:.3f}",
                f"{told['noise']:.3f}",
            ]
        )
    header = [
        "signatures",
        "seconds",
        "of processor",
        "peak MB",
        "families",
        "largest",
        "homogeneity",
        "completeness",
        "noise single",
    ]
    return (
        "Synthetic days of 40 services that share a vocabulary: families of one to ten wordings, one signature in ten"
        " noise of random words. Homogeneity and completeness are against the families put in; peak is the whole"
        " process:\n\n" + table(header, shown)
    )


# Preparation, and what runs in processes of its own.


def messages_by_system(data: Path) -> dict[str, list[str]]:
    """The messages of each labelled system below the data folder."""
    found = {}
    for folder in sorted(p for p in (data / "loghub").iterdir() if p.is_dir()):
        with next(folder.glob("*.csv")).open(encoding="utf-8", newline="") as file:
            found[folder.name] = [row["Content"] for row in csv.DictReader(file)]
    return found


def _raw(lines: Mapping[str, list[str]]) -> pd.DataFrame:
    """`frames.RAW_LOGS` rows of one team-day, each system a service."""
    from lipservice_sampler.masks import mask_many
    from lipservice_sampler.text import message_id, repair

    counted = pd.DataFrame(
        [(system, m) for system, messages in lines.items() for m in mask_many(map(repair, messages))],
        columns=["service", "message"],
    ).value_counts(sort=False)
    rows = counted.rename("logs").reset_index()
    rows["bytes"] = rows["logs"] * rows["message"].str.len()
    seen = pd.Timestamp(DAY, tz="UTC")
    return rows.assign(
        team_id=1,
        day=DAY,
        environment="",
        severity="info",
        message_id=[message_id(m) for m in rows["message"]],
        weighted_logs=rows["logs"].astype(float),
        weighted_bytes=rows["bytes"].astype(float),
        hours=[np.full(24, n / 24) for n in rows["logs"]],
        first_seen=seen,
        last_seen=seen,
        example=rows["message"],
    )


def signatures_of_systems(lines: Mapping[str, list[str]]) -> pd.DataFrame:
    """`frames.SIGNATURES` rows of one team-day, each system a service and named again in a column ``system``."""
    from lipservice_dagster.core.signatures import signatures_of

    signatures, _ = signatures_of(_raw(lines))
    return signatures.assign(system=signatures["service"])


def large_day(size: int) -> dict[str, float]:
    """Cluster a synthetic day; seconds of `cluster` alone, by the clock and of processor."""
    from sklearn.metrics import homogeneity_completeness_v_measure

    from lipservice_dagster.core.clustering import cluster

    rows = synthetic_day(size)
    start, used = time.perf_counter(), time.process_time()
    families = cluster(rows)
    seconds, processor = time.perf_counter() - start, time.process_time() - used
    truth = dict(zip(rows["signature"], rows["family"], strict=True))
    members = [(truth[s], i, len(f)) for i, f in enumerate(families["signatures"]) for s in f]
    planted = [m for m in members if m[0] >= 0]
    scores = homogeneity_completeness_v_measure([t for t, _, _ in planted], [i for _, i, _ in planted])
    noise = [n == 1 for t, _, n in members if t < 0]
    return {
        "seconds": seconds,
        "processor": processor,
        "families": len(families),
        "largest": int(families["size"].max()),
        "homogeneity": scores[0],
        "completeness": scores[1],
        "noise": sum(noise) / len(noise),
    }


_VERBS = (
    "opened closed created updated deleted fetched cached expired queued retried rejected accepted started stopped"
    " committed rolled flushed synced loaded saved parsed validated dispatched received sent dropped resized migrated"
    " scheduled cancelled"
)
_NOUNS = (
    "connection session request response order payment invoice user account cart token certificate socket file block"
    " partition replica shard index table row query transaction lock queue topic message consumer worker thread pool"
    " job task stage batch cache entry key bucket object image video email notification webhook event metric span trace"
    " config flag secret role policy rule route endpoint node pod container volume cluster lease leader snapshot backup"
)
_QUALIFIERS = (
    "primary secondary upstream downstream internal external remote local stale pending partial duplicate invalid empty"
    " large slow idle active failed missing unknown expected previous next final"
)
_SYLLABLES = "ba co di fe gu ka lo mi nu pe ra so ti vu za"
_TAILS = (
    "in <*> ms|for tenant <*>|after <*> attempts|because the deadline was exceeded|with status <*>|by user <*>|on host"
    " <*>|from region <*>|at offset <*>|of size <*> bytes|due to timeout|will retry|giving up|within the grace period|"
    "using fallback|while shutting down|during rebalance|under load|as requested|without changes"
)


def synthetic_day(size: int) -> pd.DataFrame:
    """So many signatures of one team-day, with the family they were made for in a column ``family`` (-1: noise)."""
    from lipservice_sampler.text import signature

    chance = random.Random(11)
    verbs, nouns, qualifiers, syllables = (text.split() for text in (_VERBS, _NOUNS, _QUALIFIERS, _SYLLABLES))
    tails = _TAILS.split("|")
    services = [f"{chance.choice(nouns)}-{chance.choice(['api', 'worker', 'gateway', 'sync'])}-{i}" for i in range(40)]
    # Component names are a service's own, as class and module names are.
    components = {s: ["".join(chance.choices(syllables, k=3)).title() + "Manager" for _ in range(60)] for s in services}
    every = [*verbs, *nouns, *qualifiers]
    found: dict[tuple[str, str], int] = {}
    family = 0
    while len(found) < size:
        service = services[min(int(chance.expovariate(0.08)), len(services) - 1)]
        if chance.random() < 0.1:
            rare = ["".join(chance.choices(syllables, k=4)) for _ in range(3)]
            words = [*rare, *chance.choices(every, k=3)]
            chance.shuffle(words)
            found.setdefault((service, " ".join(words)), -1)
            continue
        head = [chance.choice(components[service]), chance.choice(verbs), chance.choice(qualifiers)]
        head += chance.choices(nouns, k=chance.randint(1, 2))
        for tail in chance.sample(tails, k=chance.randint(1, 10)):
            found.setdefault((service, f"{head[0]}: {' '.join(head[1:])} {tail}"), family)
        family += 1
    keys = list(found)[:size]
    logs = np.random.default_rng(11).zipf(1.4, size).clip(max=1_000_000)
    severities = np.zeros((size, 6), dtype=np.int64)
    severities[:, 2] = logs
    return pd.DataFrame(
        {
            "team_id": 1,
            "day": DAY,
            "service": [s for s, _ in keys],
            "environment": "production",
            "signature": [signature(s, t) for s, t in keys],
            "template": [t for _, t in keys],
            "logs": logs,
            "bytes": logs * 120,
            "weighted_logs": logs.astype(float),
            "severities": list(severities),
            "family": [found[k] for k in keys],
        }
    )
