"""Files of exported policies: one a service, environment and format, named so that no name of a service leaves its
folder or is taken for another's.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

_LONGEST = 200


def path(folder: Path, team_id: int, service: str, environment: str, format: str) -> Path:  # noqa: A002
    """``team-7/shop@production.vector.yaml``; what is no letter, digit, ``_``, ``.``, ``-`` or ``~`` stands as %XX.

    A name that is too long for a file is cut, and ends in a hash of the whole.
    """
    name = f"{quote(service, safe='')}@{quote(environment, safe='')}"
    if len(name) > _LONGEST:
        name = f"{name[:_LONGEST]}@{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return folder / f"team-{team_id}" / f"{name}.{format}.yaml"


def write(file: Path, text: str) -> bool:
    """Put the text there whole, and say whether it changed: who reads finds the old one or the new. Raises OSError."""
    with suppress(FileNotFoundError):
        if file.read_text(encoding="utf-8") == text:
            return False
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=".", suffix=".part", dir=file.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            opened.write(text)
        os.chmod(aside, 0o644)  # a collector is another user
        os.replace(aside, file)
    except BaseException:
        os.unlink(aside)
        raise
    return True
