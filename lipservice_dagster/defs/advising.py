"""Between the stored judgements and the model: what is known is reused, the rest is asked, rules judge what is left.

A policy is decided by stored judgements and by rules, never by a reply as such. So a day made again, unchanged, asks
nothing and comes out the same, and a later day asks only about patterns that no judgement reaches.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pandas as pd

from lipservice_dagster.advisors import questions, rules
from lipservice_dagster.advisors.model import Model, Usage
from lipservice_dagster.advisors.questions import PROMPT_VERSION, SYSTEM, Pattern, Question
from lipservice_dagster.core.judgements import Judged, Judgement
from lipservice_dagster.partitions import TeamDay
from lipservice_dagster.storage import judgements as stored
from lipservice_dagster.storage.database import Database

_HALVINGS = 2  # of a question whose answer was cut off: seven requests at most for one


@dataclass(frozen=True)
class Advice:
    """A judgement of each signature of a team-day, and who gave it.

    ``by_model``: those the model judged, ``after_family``: those judged after a judgement of their family. Rules gave
    the others; of those that the model was to judge, ``unanswered`` says why it did not. ``rules_because`` says why no
    model was asked at all.
    """

    judgements: list[Judgement]
    model: str | None = None
    by_model: frozenset[str] = frozenset()
    after_family: frozenset[str] = frozenset()
    unanswered: Mapping[str, str] = field(default_factory=dict)
    rules_because: str = ""
    asked: int = 0
    reused: int = 0
    requests: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: float = 0.0

    def model_for(self, signatures: Collection[str]) -> str | None:
        """The model, where it judged any of these."""
        return self.model if any(s in self.by_model or s in self.after_family for s in signatures) else None

    def sentence(self, signatures: Collection[str]) -> str:
        """Who judged these patterns, and on a fallback why, for a policy's reasoning."""
        if self.model is None:
            return f"Rules judged what patterns are worth: {self.rules_because}."
        names = set(signatures)
        parts = []
        if direct := len(names & self.by_model):
            after = len(names & self.after_family)
            parts.append(
                f"{self.model} judged {_patterns(direct)}" + (f", {after} more after their family" * bool(after))
            )
        elif after := len(names & self.after_family):
            parts.append(f"{_patterns(after)} were judged after a judgement of their family by {self.model}")
        failures = Counter(self.unanswered[s] for s in names & self.unanswered.keys())
        parts += [
            f"rules judged {_patterns(count)} that {self.model} was to judge: {why}"
            for why, count in sorted(failures.items())
        ]
        left = names - self.by_model - self.after_family - self.unanswered.keys()
        if left:
            parts.append(f"rules judged {_patterns(len(left))} too small to ask about, or kept whole by any judgement")
        text = "; ".join(parts)
        return f"{text[:1].upper()}{text[1:]}." if text[:5] == "rules" else f"{text}."

    def metadata(self) -> dict[str, str | int | float]:
        """What Dagster shows of it."""
        failures = Counter(self.unanswered.values())
        shown: dict[str, str | int | float] = {
            "advisor": self.model or "rules",
            "patterns_judged_by_model": len(self.by_model) + len(self.after_family),
            "patterns_asked": self.asked,
            "patterns_reused": self.reused,
            "patterns_fallen_back": len(self.unanswered),
            "tokens_in": self.usage.input + self.usage.cache_write + self.usage.cached,
            "tokens_out": self.usage.output,
            "tokens_cached": self.usage.cached,
            "model_requests": self.requests,
            "model_cost": round(self.cost, 6),
        }
        because = self.rules_because or "; ".join(f"{why} ({count})" for why, count in sorted(failures.items()))
        return shown | ({"rules_because": because} if because else {})


def _patterns(count: int) -> str:
    return f"{count} pattern" + "s" * (count != 1)


class Consultation:
    """A run's talk with the model: its token budget, and whether the model still answers."""

    def __init__(self, model: Model | None, database: Database, run_id: str, log: logging.Logger):
        self._model, self._database, self._run_id, self._log = model, database, run_id, log
        self._spent = 0
        self._silent = ""  # why nothing more is asked in this run

    def advise(
        self,
        at: TeamDay,
        signatures: pd.DataFrame,
        clusters: pd.DataFrame,
        anomalies: pd.DataFrame,
        *,
        rare_logs: float,
        price_per_gb: float,
    ) -> Advice:
        """A judgement of each signature of the team-day; the frames are those of `questions.worth_asking`."""
        by_rules = rules.advise(signatures, clusters)
        model = self._model
        if model is None:
            return Advice(by_rules, rules_because="no model is set")
        if not model.for_team(at.team_id):
            return Advice(by_rules, rules_because="the settings keep this team's patterns from the model")
        limits = model.limits
        large = questions.worth_asking(
            signatures, clusters, anomalies, min_logs=limits.min_logs, rare_logs=rare_logs, most=limits.max_patterns
        )
        asked_for = frozenset(p.signature for p in large)
        known = self._holding(model, at, large)
        session = _Session()
        if len(known) < len(large):
            with stored.asking(self._database, at.team_id):
                known = self._holding(model, at, large)  # another run may have asked meanwhile
                missing = [p for p in large if p.signature not in known]
                self._ask_about(model, at, missing, price_per_gb, session)
            known = self._holding(model, at, large)
        judged = {p.signature: known[p.signature] for p in large if p.signature in known}
        of_families = questions.after_family(by_rules, clusters, judged, asked_for)
        final = [
            judged[r.signature].judgement if r.signature in judged else of_families.get(r.signature, r)
            for r in by_rules
        ]
        return Advice(
            final,
            model.name,
            frozenset(judged),
            frozenset(of_families),
            {s: session.problems.get(s, self._silent) for s in asked_for - judged.keys()},
            asked=session.asked,
            reused=len(large) - session.missing,
            requests=session.requests,
            usage=session.usage,
            cost=model.prices.cost(session.usage),
        )

    def _holding(self, model: Model, at: TeamDay, patterns: list[Pattern]) -> dict[str, Judged]:
        wanted = [p.signature for p in patterns]
        return stored.holding(self._database, at, wanted, model.name, PROMPT_VERSION, model.limits.judgement_days)

    def _ask_about(
        self, model: Model, at: TeamDay, missing: list[Pattern], price_per_gb: float, session: _Session
    ) -> None:
        session.missing = len(missing)
        for question in questions.batches(missing, price_per_gb, model.limits.batch_patterns):
            self._ask(model, at, question, session, _HALVINGS)
        if missing:
            self._log.info(
                f"{at}: {model.name} was asked about {session.asked} of {len(missing)} patterns in {session.requests}"
                f" requests, {session.usage.tokens:,} tokens; {len(session.problems)} are left to rules"
            )

    def _ask(self, model: Model, at: TeamDay, question: Question, session: _Session, halvings: int) -> None:
        """Ask, and store what comes back at once: an answer that was paid for is not lost with the run."""
        names = [p.signature for p in question.patterns]
        if why := self._silent or self._over_budget(model, question):
            session.problems |= dict.fromkeys(names, why)
            return
        reply = model.ask(question)
        judged = questions.read(question, reply.answer) if reply.answer is not None else []
        self._spent += reply.usage.tokens
        session.requests += 1
        session.usage += reply.usage
        session.asked_about.update(names)
        stored.add(
            self._database,
            self._run_id,
            at,
            model.name,
            PROMPT_VERSION,
            judged,
            {
                "patterns": len(names),
                "input_tokens": reply.usage.input,
                "output_tokens": reply.usage.output,
                "cached_tokens": reply.usage.cached,
                "cache_write_tokens": reply.usage.cache_write,
                "cost": model.prices.cost(reply.usage),
                "problem": reply.problem or None,
            },
        )
        if reply.cut_off and halvings and len(names) > 1:
            for half in question.halves():
                self._ask(model, at, half, session, halvings - 1)
            return
        if reply.problem:
            self._log.warning(f"{at}: {model.name}: {reply.problem}; rules judge {len(names)} patterns")
        if reply.unavailable:
            self._silent = reply.problem
        answered = {j.judgement.signature for j in judged}
        why = reply.problem or "its answer left them out"
        session.problems |= {s: why for s in names if s not in answered}

    def _over_budget(self, model: Model, question: Question) -> str:
        """Why this question may not be asked, or ''; what it could take at most counts, at two bytes a token."""
        limits = model.limits
        most = len((SYSTEM + question.text()).encode("utf-8", "surrogatepass")) // 2 + limits.max_output_tokens
        if self._spent + most > limits.tokens_per_run:
            return "the run's token budget is spent"
        if stored.tokens_of_day(self._database, datetime.now(UTC).date()) + most > limits.tokens_per_day:
            return "the day's token budget is spent"
        return ""


class _Session:
    """What asking about one team-day came to."""

    def __init__(self) -> None:
        self.missing = 0
        self.requests = 0
        self.usage = Usage()
        self.asked_about: set[str] = set()
        self.problems: dict[str, str] = {}

    @property
    def asked(self) -> int:
        return len(self.asked_about)
