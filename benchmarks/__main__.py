"""Run the benchmarks and write their figures to docs/benchmarks.md."""

from __future__ import annotations

import argparse
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import anomalies, api, clusters, exports, policies, sampler, scale, signatures

SECTIONS = {
    "signatures": signatures.run,
    "clusters": clusters.run,
    "anomalies": anomalies.run,
    "policies": policies.run,
    "scale": scale.run,
    "decisions": sampler.run,
    "exports": exports.run,
    "api": api.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with labelled logs; what needs it is skipped without")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"), help="where the figures go")
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], help="default: all")
    arguments = parser.parse_args()
    data = arguments.data.resolve() if arguments.data and arguments.data.is_dir() else None
    parts = [
        "# Benchmarks",
        "Ratios against a peer, measured side by side in one run (`make bench DATA=folder`, with the labelled logs of"
        f" Loghub below it). Last run: {datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()},"
        f" {os.cpu_count()} cores of {platform.machine()}. Compare ratios, not seconds.",
    ]
    parts += [SECTIONS[name](data) for name in arguments.sections or SECTIONS]
    arguments.out.write_text("\n\n".join(parts) + "\n")
    print(f"figures are in {arguments.out}")


if __name__ == "__main__":
    main()
