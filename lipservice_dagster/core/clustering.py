"""Families of patterns: TF-IDF over the words of templates, DBSCAN over their cosine distances.

What belongs here: which signatures of a team-day say nearly the same, and the name of such a family. Its words and its
label stand in `clustering_words`; how templates are mined, and what a family is worth, elsewhere.

**Words.** Variables ``<*>`` weigh nothing. What is left is split at everything that is not a letter and at camelCase,
is lower-cased, and single ASCII letters are left out. A word weighs ``(1 + ln tf) · (ln((1 + n)/(1 + df)) + 1)`` over
the n distinct (service, words) of the day, the second factor at most `RAREST` and at least half of what the day's
rarest word has: otherwise the words that a family shares would weigh nothing on a day that is mostly made of it, beside
the one word that is each member's own, and it would fall into single ones overnight. Digits are no words, so ``HTTP
200`` and ``HTTP 503`` are one family: a family is what a person would name together ("HTTP"), and its severities tell
how much of it went wrong.

**Distance.** ``1 − (1 − SERVICE_WEIGHT) · cosine of the words − SERVICE_WEIGHT · [same service]``: the service is one
token that owns a fixed share of every vector. Two templates of one service are neighbours from a cosine of 0.29 on,
templates of two services from 0.63 on: within a service two or three telling words in common make a family, across
services (which share "failed", "connection", "started") most of the message must be the same.

**Chains.** With ``min_samples=2`` DBSCAN links whatever is near to anything, so a large day would grow one long chain
(50,000 templates of one vocabulary became a single family). A family must therefore hang together: where the mean
cosine of two members is below `COHESION`, it is cut again at a smaller eps (10% at a time; finer steps part near days
more differently) until every part does.

**Why these numbers.** The 508 templates that our miner finds in eight labelled Loghub systems, the system taken as
service, when rarity had no bounds; families judged by their homogeneity against the source system, where a signature
left single counts as a family of its own. Beside it the same of 20 random mixes of four of the systems (mean
homogeneity, most families a signature), so that a number which fits one mix only shows, and all eight with the service
hidden:

========  ========  ========  ===============  ===========  =======  ===================  ==============
service   eps       cohesion  families a sig.  homogeneity  largest  mixes of four        service hidden
========  ========  ========  ===============  ===========  =======  ===================  ==============
0         0.56      none      0.59             0.962        22       0.972, at most 0.70  0.962 at 0.59
0         0.68      0.20      0.46             0.912        25       0.927, at most 0.55  0.912 at 0.46
0.15      0.58      none      0.42             0.963        35       0.973, at most 0.53  0.743 at 0.35
0.15      0.58      0.20      0.47             0.972        29       0.977, at most 0.56  0.919 at 0.47
0.25      0.53      none      0.39             0.988        44       0.979, at most 0.49  0.491 at 0.28
**0.25**  **0.53**  **0.20**  **0.46**         **0.988**    31       0.985, at most 0.54  0.929 at 0.48
0.25      0.53      0.25      0.49             0.988        25       0.985, at most 0.57  0.945 at 0.51
0.25      0.50      0.20      0.49             0.989        27       0.986, at most 0.56  0.910 at 0.47
0.25      0.56      0.20      0.44             0.986        27       0.983, at most 0.52  0.913 at 0.47
0.35      0.46      0.20      0.47             0.994        31       0.993, at most 0.53  0.926 at 0.48
========  ========  ========  ===============  ===========  =======  ===================  ==============

With the bounds the bold row is 0.47 at 0.989, the largest of 27, and 0.925 at 0.47 with the service hidden; and on the
synthetic day of 50,000 in `benchmarks/clusters.py` homogeneity rose from 0.82 to 0.90. A least rarity of a third of the
most would keep whole, on any day, families that share three words; of half, those that share two.

Words alone do not halve the list without mixing systems. From 0.25 to 0.35 the service gains little and would part
families that two services do share (the same library's messages), so the lighter one is taken. Without cohesion the
words hardly count once the service is hidden. Stop words at a half to a tenth of their weight and idf to the power of
0.7 or 1.5 moved homogeneity by less than 0.01 at the same number of families. A larger eps would make fewer families,
and less steady ones: of families of several that two halves of the same logs have in common, the mean overlap of
members is 0.92 here, 0.88 at an eps of 0.55.

**Names.** A family's name is the least of the hashes of its members' service and words. Members that come and go leave
it alone unless the member with the least hash is among them, so two days' families have the same name as often as their
members overlap (Broder's min-wise hashing: the chance is their Jaccard index), whatever the rest of the day looks like;
of a family that falls in two, one part keeps the name. Weights by logs did no better. From one demo day to the next 94%
of families of several and 98% of single ones keep their name (97% and 99% keep their members); a hash of the words that
a family shares kept 93% and 98% there, but 51% instead of 73% between random halves of the eight systems' logs. A name
read from the day before would follow members further, but then a day's table would depend on which days were made
before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy

from lipservice_dagster.core.clustering_words import label, words
from lipservice_dagster.core.frames import CLUSTERS, SEVERITIES, empty

EPS = 0.53
"""Greatest distance of two neighbours; see the module's docstring for the evidence."""

SERVICE_WEIGHT = 0.25
"""Share of a vector that its service owns."""

COHESION = 0.2
"""Least mean cosine of two members of a family; a family below it is a chain and cut again."""

RAREST = 6.0
"""Most that the rarity of a word weighs; the least is half of the most that a word of the day has."""

_TIGHTER = 0.9
_COMMON = 0.95
_BLOCK_PAIRS = 4_000_000
_LEAST_DISTANCE = 1e-9


def cluster(signatures: pd.DataFrame, *, eps: float = EPS, service_weight: float = SERVICE_WEIGHT) -> pd.DataFrame:
    """The families of one team-day's signatures: one row a family, columns `frames.CLUSTERS`.

    ``signatures`` has `frames.SIGNATURES` rows of exactly one team and day; rows of one signature (environments) are
    added up first. Every signature is in exactly one family; one without a neighbour, or without a word, is a family of
    its own. ``logs``, ``bytes``, ``weighted_logs`` and ``severities`` are sums over the members. Families come with the
    most logs first. The order of the rows of ``signatures`` changes nothing.

    Names (16 hex digits) are unlike all others of the day and follow the members from day to day, see the module.

    Raises ``ValueError`` if the rows are of more than one team-day.
    """
    if signatures.empty:
        return empty(CLUSTERS)
    team_days = signatures[["team_id", "day"]].drop_duplicates()
    if len(team_days) != 1:
        raise ValueError(
            f"cluster() takes the signatures of one team-day, these are of {len(team_days)}: "
            "group by team_id and day and call it for each"
        )
    members = _one_row_a_signature(signatures)
    member_words = [words(template) for template in members["template"]]
    labels, _ = _families(members["service"].to_list(), member_words, eps, service_weight)
    frame = _rows(members, member_words, labels)
    frame.insert(0, "team_id", team_days["team_id"].iloc[0])
    frame.insert(1, "day", team_days["day"].iloc[0])
    return frame[list(CLUSTERS)]


def _one_row_a_signature(signatures: pd.DataFrame) -> pd.DataFrame:
    """Sums over environments, sorted by signature; severities as a matrix in columns s0…s5."""
    severities = np.zeros((len(signatures), len(SEVERITIES)))
    severities[:] = np.stack(signatures["severities"].to_list())
    frame = signatures[["signature", "service", "template", "logs", "bytes", "weighted_logs"]].reset_index(drop=True)
    for i in range(len(SEVERITIES)):
        frame[f"s{i}"] = severities[:, i].astype(np.int64)
    # Float sums depend on the order of their terms, so the order is made one before they are taken.
    frame = frame.sort_values(["signature", "weighted_logs", "logs", "bytes"], kind="stable")
    how = {"service": "first", "template": "first"} | {
        c: "sum" for c in frame.columns if c not in ("signature", "service", "template")
    }
    return frame.groupby("signature", sort=True).agg(how).reset_index()


def _families(
    services: Sequence[str], member_words: Sequence[Sequence[str]], eps: float, service_weight: float
) -> tuple[np.ndarray, int]:
    """A family number for each member (S,), and how many families there are."""
    # Members with the same service and bag of words are one node: equal templates would make the graph quadratic.
    keys = [(service, tuple(sorted(bag))) for service, bag in zip(services, member_words, strict=True)]
    nodes = sorted({key for key in keys if key[1]})
    node_of = {key: i for i, key in enumerate(nodes)}
    node_labels = _node_families(nodes, eps, service_weight)
    labels = np.array([node_labels[node_of[key]] if key[1] else -1 for key in keys], dtype=np.int64)
    return _number_singles(labels)


def _number_singles(labels: np.ndarray) -> tuple[np.ndarray, int]:
    labels = labels.copy()
    single = labels < 0
    labels[single] = labels.max(initial=-1) + 1 + np.arange(single.sum())
    _, dense = np.unique(labels, return_inverse=True)
    return dense, int(dense.max(initial=-1)) + 1


def _node_families(nodes: Sequence[tuple[str, tuple[str, ...]]], eps: float, service_weight: float) -> np.ndarray:
    if not nodes:
        return np.zeros(0, dtype=np.int64)
    counts = _count_matrix([bag for _, bag in nodes])
    tfidf = _weighed(counts)
    _, service = np.unique(np.array([s for s, _ in nodes], dtype=object).astype(str), return_inverse=True)
    forest = _neighbour_forest(tfidf, service, eps, service_weight)
    labels, n = _number_singles(_dbscan(forest, eps))
    while eps > _LEAST_DISTANCE:
        chained = np.flatnonzero(_cohesion(tfidf, labels, n) < COHESION)
        if not chained.size:
            break
        eps *= _TIGHTER
        again = np.isin(labels, chained)
        parts, _ = _number_singles(_dbscan(forest[again][:, again], eps))
        labels[again] = n + parts
        labels, n = _number_singles(labels)
    return labels


def _count_matrix(bags: Sequence[Sequence[str]]) -> scipy.sparse.csr_matrix:
    vocabulary = {word: i for i, word in enumerate(sorted({word for bag in bags for word in bag}))}
    lengths = np.fromiter((len(bag) for bag in bags), dtype=np.int64, count=len(bags))
    columns = np.fromiter((vocabulary[word] for bag in bags for word in bag), dtype=np.int64, count=lengths.sum())
    rows = np.repeat(np.arange(len(bags)), lengths)
    # Converting from coordinates adds up a word that stands in a template more than once.
    return scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(bags), len(vocabulary)))


def _weighed(counts: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """Rows of unit length: how often each word stands in each node, and how rare it is."""
    from sklearn.feature_extraction.text import TfidfTransformer  # a second, for which the graph's load need not wait
    from sklearn.preprocessing import normalize

    transformer = TfidfTransformer(norm=None, smooth_idf=True, sublinear_tf=True).fit(counts)
    rarity = np.minimum(transformer.idf_, RAREST)
    transformer.idf_ = np.maximum(rarity, rarity.max(initial=0.0) / 2)
    return scipy.sparse.csr_matrix(normalize(transformer.transform(counts)))


def _cohesion(tfidf: scipy.sparse.csr_matrix, labels: np.ndarray, n: int) -> np.ndarray:
    """The mean cosine of the words of two members of each family (n,); 1 for a single one."""
    size = np.bincount(labels, minlength=n)
    indicator = scipy.sparse.csr_matrix((np.ones(len(labels)), (labels, np.arange(len(labels)))))
    total = indicator @ tfidf
    squares = np.asarray(total.multiply(total).sum(axis=1)).ravel()
    # The square of a sum of unit vectors is the sum of all their products, each with itself among them.
    pairs: np.ndarray = np.where(size > 1, (squares - size) / np.maximum(size * (size - 1), 1), 1.0)
    return pairs


def _neighbour_forest(
    tfidf: scipy.sparse.csr_matrix, service: np.ndarray, eps: float, service_weight: float
) -> scipy.sparse.csr_matrix:
    """The least spanning forest of the graph of neighbours (distance ≤ eps), symmetric, with distances as values.

    Nodes hang together at any eps' ≤ eps in the forest exactly when they do in the whole graph, and each keeps its
    nearest neighbour, which is all DBSCAN with ``min_samples=2`` reads. So blocks of the product can be thrown away,
    and memory stays at one block however many pairs are near.

    A product of two unit vectors is at most the part over x's rare words plus the norm of the rest of x. So the product
    is taken over rare words alone, where rows are few, and only pairs that can still reach the threshold are finished.
    """
    n = tfidf.shape[0]
    least, least_across = ((1 - eps - own) / (1 - service_weight) for own in (service_weight, 0.0))
    # The more words are common the fewer products there are, and the more of them must be finished.
    rare, common, rest = _split_by_rarity(tfidf, _COMMON * least)
    # Products a row can need: how often each of its rare words stands anywhere.
    frequency = np.diff(tfidf.tocsc().indptr)
    work = (rare != 0).astype(np.int64) @ frequency
    cuts = np.searchsorted(np.cumsum(work), np.arange(_BLOCK_PAIRS, work.sum() + _BLOCK_PAIRS, _BLOCK_PAIRS))
    forest = scipy.sparse.csr_matrix((n, n))
    start = 0
    for stop in [*np.unique(cuts), n]:
        stop = min(int(stop) + 1, n)
        if stop <= start:
            continue
        # Each pair is met once, from its earlier row.
        product = (rare[start:stop] @ tfidf[start:].T).tocoo()
        i, j, dot = product.row + start, product.col + start, product.data
        near = (i < j) & (dot + rest[i] >= least - 1e-12)
        i, j, dot = i[near], j[near], dot[near]
        near = (service[i] == service[j]) | (dot + rest[i] >= least_across - 1e-12)
        i, j, dot = i[near], j[near], dot[near]
        if common.nnz:
            dot = dot + _dots(common, tfidf, i, j)
        distance = 1 - (1 - service_weight) * dot - service_weight * (service[i] == service[j])
        near = distance <= eps
        i, j, distance = i[near], j[near], np.maximum(distance[near], _LEAST_DISTANCE)
        block = scipy.sparse.coo_matrix((distance, (i, j)), shape=(n, n))
        forest = scipy.sparse.csgraph.minimum_spanning_tree(_least_of(forest.tocoo(), block, n))
        start = stop
    forest = forest.maximum(forest.T).tocsr()
    forest.sort_indices()
    return forest


def _least_of(a: scipy.sparse.coo_matrix, b: scipy.sparse.coo_matrix, n: int) -> scipy.sparse.csr_matrix:
    """Both graphs in one; of edges that stand twice the shorter (a sum would be taken otherwise)."""
    row, col = np.concatenate([a.row, b.row]), np.concatenate([a.col, b.col])
    data = np.concatenate([a.data, b.data])
    low, high = np.minimum(row, col).astype(np.int64), np.maximum(row, col).astype(np.int64)
    order = np.lexsort((data, low * n + high))
    edge = (low * n + high)[order]
    first = np.ones(len(edge), dtype=bool)
    first[1:] = edge[1:] != edge[:-1]
    kept = order[first]
    return scipy.sparse.csr_matrix((data[kept], (low[kept], high[kept])), shape=(n, n))


def _split_by_rarity(
    tfidf: scipy.sparse.csr_matrix, most: float
) -> tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix, np.ndarray]:
    """(rare, common, norms of the rows of common): as many common words as fit under the norm ``most``."""
    n = tfidf.shape[0]
    frequency = np.diff(tfidf.tocsc().indptr)
    row = np.repeat(np.arange(n), np.diff(tfidf.indptr))
    order = np.lexsort((tfidf.indices, -frequency[tfidf.indices], row))
    squares = np.cumsum(tfidf.data[order] ** 2)
    before = np.concatenate([[0.0], squares])[tfidf.indptr[:-1]]
    is_common = np.zeros(len(order), dtype=bool)
    is_common[order] = squares - before[row[order]] <= most**2
    common, rare = tfidf.copy(), tfidf.copy()
    common.data = np.where(is_common, tfidf.data, 0.0)
    rare.data = np.where(is_common, 0.0, tfidf.data)
    common.eliminate_zeros()
    rare.eliminate_zeros()
    return rare, common, np.sqrt(np.asarray(common.multiply(common).sum(axis=1)).ravel())


def _dots(a: scipy.sparse.csr_matrix, b: scipy.sparse.csr_matrix, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Row i of a times row j of b, pair by pair."""
    out = np.empty(len(i))
    step = 200_000
    for at in range(0, len(i), step):
        pairs = slice(at, at + step)
        out[pairs] = np.asarray(a[i[pairs]].multiply(b[j[pairs]]).sum(axis=1)).ravel()
    return out


def _dbscan(forest: scipy.sparse.csr_matrix, eps: float) -> np.ndarray:
    if forest.nnz == 0:  # DBSCAN wants at least one stored distance
        return np.full(forest.shape[0], -1, dtype=np.int64)
    from sklearn.cluster import DBSCAN  # as above

    return np.asarray(DBSCAN(eps=eps, min_samples=2, metric="precomputed").fit_predict(forest), dtype=np.int64)


def _rows(members: pd.DataFrame, member_words: Sequence[Sequence[str]], labels: np.ndarray) -> pd.DataFrame:
    """One row a family, most logs first."""
    logs = members["logs"].to_numpy()
    ranked = np.lexsort((members["signature"].to_numpy().astype(str), -logs, labels))
    starts = np.flatnonzero(np.diff(labels[ranked], prepend=-1))
    groups: list[np.ndarray] = np.split(ranked, starts[1:])
    service, signature = members["service"].to_list(), members["signature"].to_list()
    template = members["template"].to_list()
    rows = []
    for group in groups:
        bags = [member_words[i] for i in group]
        rows.append(
            {
                "cluster": _name([service[i] for i in group], bags, [signature[i] for i in group]),
                "label": label([template[i] for i in group], bags),
                "representative": signature[group[0]],
                "template": template[group[0]],
                "signatures": sorted(signature[i] for i in group),
                "services": sorted({service[i] for i in group}),
                "size": len(group),
            }
        )
    frame = pd.DataFrame(rows)
    family = np.repeat(np.arange(len(starts)), np.diff([*starts, len(ranked)]))
    for column in ("logs", "bytes", "weighted_logs"):
        values = members[column].to_numpy()[ranked]
        sums = np.zeros(len(starts), dtype=values.dtype)
        np.add.at(sums, family, values)
        frame[column] = sums
    severities = np.zeros((len(starts), len(SEVERITIES)), dtype=np.int64)
    np.add.at(severities, family, members[[f"s{i}" for i in range(len(SEVERITIES))]].to_numpy()[ranked])
    frame["severities"] = pd.Series(list(severities), dtype=object)
    order = np.lexsort((frame["cluster"].to_numpy().astype(str), -frame["logs"].to_numpy()))
    return frame.iloc[order].reset_index(drop=True)


def _name(services: Sequence[str], bags: Sequence[Sequence[str]], signatures: Sequence[str]) -> str:
    """The least of the hashes of the members' service and words; a member without words stands by its signature."""
    return min(
        hashlib.sha256("\0".join([service, *(sorted(bag) or ["", name])]).encode("utf-8", "surrogatepass")).hexdigest()
        for service, bag, name in zip(services, bags, signatures, strict=True)
    )[:16]
