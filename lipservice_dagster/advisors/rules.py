"""The rules advisor: worth by keywords, for teams without a language model and wherever one fails.

The rules are data, read from top to bottom; the first that matches a template decides. Where none does, the family's
label is tried (a template worded unlike its siblings is still of their kind), then the severity decides. The same
signatures always get the same judgements.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from lipservice_dagster.core.frames import ERROR_SEVERITIES, SEVERITIES
from lipservice_dagster.core.judgements import WORTH, Category, Judgement, Level
from lipservice_sampler.decision import error_like


class Rule(NamedTuple):
    """A kind of log: the words (any of them, at the start of a word, ASCII case ignored) and what it is worth."""

    category: Category
    level: Level
    words: tuple[str, ...]
    reason: str


RULES: tuple[Rule, ...] = (
    Rule(
        "health_check",
        "noise",
        (
            r"health[ _-]?(?:check|probe|z\b)",
            r"/health\b",
            r"(?:liveness|readiness)(?:[ _-]?probe)?\b",
            r"startup[ _-]?probe\b",
            r"livez\b",
            r"readyz\b",
            r"heart[ _-]?beat",
            r"keep[ _-]?alive",
            r"kube-probe",
            r"elb-healthchecker",
            r"ping(?:ed)?\b",
            r"pong\b",
        ),
        "Health checks repeat whether or not something happens; their absence shows in counts, which sampling keeps.",
    ),
    Rule(
        "audit",
        "must_keep",
        (
            r"audit(?:ed|s|ing)?\b",
            r"(?:role|permission|privilege|policy|acl)s? (?:\S+ )?(?:granted|revoked|changed|added|removed)",
            r"(?:granted|revoked) (?:\S+ )?(?:role|permission|privilege|access)",
            r"impersonat",
            r"(?:gdpr|data (?:export|deletion)) request",
        ),
        "Audit trails answer for single acts, so each record counts.",
    ),
    Rule(
        "security",
        "high",
        (
            r"(?:un)?auth(?:entication|enticated|orization|orized)\b",
            r"(?:access|permission) denied",
            r"log(?:ged)?[ _-]?(?:in|on|out|off)\b",
            r"sign(?:ed)?[ _-]?(?:in|out|up)\b",
            r"session (?:opened|closed) for user\b",
            r"(?:invalid|unknown|illegal) user\b",
            r"user unknown\b",
            r"password",
            r"(?:invalid|expired|revoked|bad) (?:api )?(?:token|credential|signature|certificate|key)",
            r"(?:mfa|2fa|totp|sso|saml|oauth)\b",
            r"brute[ -]?force",
            r"break-?in\b",
            r"intrusion",
            r"forbidden",
            r"firewall",
            r"sudo\b",
        ),
        "Who got in or was turned away matters after an incident.",
    ),
    Rule(
        "billing",
        "high",
        (
            r"(?:payment|invoice|refund|charge(?:back|d)|payout|subscription)s?\b",
            r"billing",
            r"billed",
            r"checkout (?:completed|failed|started)",
            r"(?:credit )?card (?:charged|declined|authorized)",
            r"(?:stripe|paypal|adyen)\b",
        ),
        "Money moves are looked up one at a time.",
    ),
    Rule(
        "access_log",
        "low",
        (
            r"(?:get|head|options|put|post|patch|delete) (?:<\*>|/|https?:)",
            r"http/<\*>",
            r"http/[012]\b",
            r"(?:request|response) (?:started|completed|finished|received|sent|handled|served)",
            r"(?:started|completed|finished|received|sending|sent|handled|served|incoming|outgoing) "
            r"(?:\S+ )?(?:request|response)",
            r"status(?:[ _-]?code)?[=: ]+<\*>",
            r"(?:http_)?user[_-]?agent\b",
        ),
        "Access logs are read as counts and rates, which a sample gives.",
    ),
    Rule(
        "business_event",
        "high",
        (
            r"(?:order|customer|account|user|booking|reservation|shipment|cart|ticket|contract|campaign|plan)s? "
            r"(?:<\*> )?(?:was |has been )?(?:created|placed|cancell?ed|confirmed|shipped|delivered|upgraded|"
            r"downgraded|completed|deleted|registered|activated|deactivated|converted)",
            r"(?:created|placed|cancell?ed|confirmed|shipped|delivered|registered) (?:an? |new )?"
            r"(?:order|customer|account|user|booking|reservation|shipment|ticket|contract)",
        ),
        "Business events are what the service is for.",
    ),
    Rule(
        "debug",
        "noise",
        (
            r"debug(?:ging)?\b",
            r"trac(?:e|ing):",
            r"(?:entering|leaving|exiting|enter|exit) (?:\S+ )?(?:method|function|handler|block|state)",
            r"dump(?:ing)? (?:of )?(?:state|object|payload|variables)",
            r"cache[ _-]?(?:hit|miss)",
            r"(?:acquir|releas)(?:e|ed|ing) (?:\S+ )?(?:lock|connection|semaphore)",
            r"poll(?:ing|ed)\b",
            r"(?:sleeping|waiting) (?:for )?(?:<\*>)",
            r"nothing to do\b",
        ),
        "Debug output is of use to who is looking at the time; a sample shows its shape.",
    ),
)
"""In the order they are tried. Audit, security and billing come before access logs: "POST /login" is a login."""

_BY_SEVERITY: dict[str, tuple[Category, Level, str]] = {
    "trace": ("debug", "noise", "No rule knows it; it is written at severity trace."),
    "debug": ("debug", "low", "No rule knows it; it is written at severity debug."),
    "info": ("other", "normal", "No rule knows it; it is written at severity info."),
    "warn": ("other", "high", "No rule knows it; it is written at severity warn."),
    "error": ("error", "must_keep", "It is written at severity error."),
    "fatal": ("error", "must_keep", "It is written at severity fatal."),
}

_COMPILED = tuple(
    (rule, re.compile(r"(?<![A-Za-z0-9])(?:" + "|".join(rule.words) + ")", re.ASCII | re.IGNORECASE)) for rule in RULES
)


def advise(signatures: pd.DataFrame, clusters: pd.DataFrame) -> list[Judgement]:
    """A judgement of each signature, sorted by signature.

    Args:
        signatures: rows of `frames.SIGNATURES`, of any services and environments of a team-day; a signature in several
            environments is judged once, over their severities together.
        clusters: rows of `frames.CLUSTERS` of the same team-day, or an empty frame.
    """
    if signatures.empty:
        return []
    labels = _labels(clusters)
    judgements = []
    for signature, rows in signatures.groupby("signature", sort=True):
        template = min(rows["template"])
        severity = _main_severity(rows["severities"].to_list())
        judgements.append(judge(str(signature), template, severity, labels.get(str(signature), "")))
    return judgements


def judge(signature: str, template: str, severity: str, label: str = "") -> Judgement:
    """The judgement of one pattern, from its template, its main severity and its family's label ('' without one)."""
    if severity in ERROR_SEVERITIES:
        category, level, reason = _BY_SEVERITY[severity]
    elif error_like(template):
        category, level, reason = "error", "must_keep", "Its text reads like an error."
    elif rule := _matching(template):
        category, level, reason = rule.category, _at_severity(rule.level, severity), rule.reason
    elif rule := _matching(label):
        category, level, reason = rule.category, _at_severity(rule.level, severity), f"Of its family: {rule.reason}"
    else:
        category, level, reason = _BY_SEVERITY[severity]
    return Judgement(signature=signature, worth=WORTH[level], category=category, reason=reason)


def _at_severity(level: Level, severity: str) -> Level:
    """A warning is worth a normal log at least, whatever it speaks of."""
    return "normal" if severity == "warn" and WORTH[level] < WORTH["normal"] else level


def _matching(text: str) -> Rule | None:
    return next((rule for rule, words in _COMPILED if words.search(text)), None)


def _main_severity(counts: Sequence[Sequence[int]]) -> str:
    """The severity of most logs; of two alike the higher one."""
    totals = [sum(int(row[rank]) for row in counts) for rank in range(len(SEVERITIES))]
    return SEVERITIES[max(range(len(SEVERITIES)), key=lambda rank: (totals[rank], rank))]


def _labels(clusters: pd.DataFrame) -> dict[str, str]:
    """The label of each signature's family; a signature in two keeps the least label."""
    labels: dict[str, str] = {}
    if clusters.empty:
        return labels
    for label, members in zip(clusters["label"], clusters["signatures"], strict=True):
        for signature in members:
            labels[signature] = min(labels.get(signature, label), label)
    return labels
