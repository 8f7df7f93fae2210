"""``lipservice templates``: the template of each message on standard input.

Its imports are kept light, since most of a short run would otherwise be their loading.
"""

from __future__ import annotations

from typing import BinaryIO

from lipservice_dagster.core.templates_written import mined_lines
from lipservice_sampler.masks import FOLD_FROM, FOLD_TO
from lipservice_sampler.text import signature

_FOLD = bytes.maketrans(FOLD_FROM.encode(), FOLD_TO.encode())


def run(stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Read messages, one a line, and write ``SIGNATURE<TAB>TEMPLATE`` for each, in order (service ``''``)."""
    data = stdin.read()
    if not data:
        return
    data = data.removesuffix(b"\n")
    raw, folded = data.split(b"\n"), data.translate(_FOLD).split(b"\n")
    named = mined_lines(raw, folded)
    lines = {key: f"{signature('', mined)}\t{written}\n".encode() for key, (mined, written) in named.items()}
    stdout.write(b"".join(map(lines.__getitem__, folded)))
