"""Keys of the HTTP API: high-entropy secrets of which only hashes are stored, each of one team.

**Access.** ``read`` sees what there is of the team. ``report`` also reports what a sampler saw and kept: a key that
lies in every application must not be able to change a policy. ``write`` may do everything.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.tables import api_keys

READ, REPORT, WRITE = ACCESS = ("read", "report", "write")
"""Each may what those before it may."""
_PREFIX = "lsk_"
_BYTES = 32


class UnknownKeyError(LookupError):
    """A team has no such key in force."""


@dataclass(frozen=True)
class Key:
    """A key without its secret."""

    id: int
    team_id: int
    name: str
    access: str
    created_at: datetime
    revoked_at: datetime | None = None

    def may(self, access: str) -> bool:
        """Whether it has this access."""
        return ACCESS.index(self.access) >= ACCESS.index(access)


_COLUMNS = [api_keys.c[name] for name in Key.__dataclass_fields__]


def create(database: Database, team_id: int, name: str, access: str) -> tuple[Key, str]:
    """Store a new key; returns it and its secret, which is known to nobody afterwards."""
    secret = _PREFIX + secrets.token_urlsafe(_BYTES)
    values = {"team_id": team_id, "name": name, "access": access, "hash": hashed(secret)}
    with database.engine.begin() as connection:
        row = connection.execute(sa.insert(api_keys).values(values).returning(*_COLUMNS)).one()
    return Key(**row._mapping), secret


def find(database: Database, hash_of_secret: str) -> Key | None:
    """The key in force of this hash."""
    statement = sa.select(*_COLUMNS).where(api_keys.c.hash == hash_of_secret, api_keys.c.revoked_at.is_(None))
    with database.engine.connect() as connection:
        row = connection.execute(statement).first()
    return None if row is None else Key(**row._mapping)


def of_team(database: Database, team_id: int) -> list[Key]:
    """All keys of a team, revoked ones too, oldest first."""
    with database.engine.connect() as connection:
        rows = connection.execute(sa.select(*_COLUMNS).where(api_keys.c.team_id == team_id).order_by(api_keys.c.id))
        return [Key(**row._mapping) for row in rows]


def revoke(database: Database, team_id: int, key_id: int) -> None:
    """End a key; servers stop taking it within a second. Raises UnknownKeyError."""
    statement = (
        sa.update(api_keys)
        .where(api_keys.c.team_id == team_id, api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=sa.func.now())
    )
    with database.engine.begin() as connection:
        if not connection.execute(statement).rowcount:
            raise UnknownKeyError(
                f"Team {team_id} has no key {key_id} in force: `lipservice keys list --team {team_id}`"
            )


def hashed(secret: str) -> str:
    """What is stored of a secret. It has 256 random bits, so nothing slower than SHA-256 is needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
