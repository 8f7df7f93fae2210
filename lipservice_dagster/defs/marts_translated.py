"""dbt's models as dagster-dbt sees them: keys, lineage, checks and columns, kept beside dbt's manifest.

Importing dagster-dbt, and dbt with it, takes longer than all else that the code location loads. What it says of the
models follows from the state of the project, so it is asked once for each and its answer is kept as JSON;
`python -m lipservice_dagster.defs.marts_translated` asks ahead of time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lipservice_dagster.storage import dbt

GROUP = "marts"
UNIQUE_ID = "dagster_dbt/unique_id"
_FORM = 1  # of what is kept
_COLUMNS = "dagster/column_schema"


@dataclass(frozen=True)
class Check:
    """A test of a model: its name, dbt's id, and the other assets that it reads."""

    name: str
    unique_id: str
    description: str | None
    reads: Sequence[Sequence[str]]
    blocking: bool


@dataclass(frozen=True)
class Model:
    """A model as an asset. Keys are paths; ``columns`` are (name, type, description); ``sources``: tables of ours."""

    key: Sequence[str]
    unique_id: str
    description: str
    code_version: str
    tags: Mapping[str, str]
    metadata: Mapping[str, str]
    columns: Sequence[Sequence[str]]
    sources: Sequence[Sequence[str]]
    models: Sequence[Sequence[str]]
    checks: Sequence[Check]

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Model:
        """From JSON."""
        return cls(**{**told, "checks": [Check(**c) for c in told["checks"]]})


def models(home: Path) -> list[Model]:
    """The project's models, by key; asked of dagster-dbt (some seconds) where this state of it is not known yet."""
    found = dbt.kept(home, f"models-{_FORM}-{version('dagster-dbt')}-{dbt.fingerprint()}.json")
    if not found.is_file():
        told = [asdict(model) for model in _translated(dbt.manifest(home))]
        aside = found.with_name(f".{found.name}.{os.getpid()}")
        aside.write_text(json.dumps(told))
        aside.replace(found)  # whole, also for a process that makes it too
    return [Model.read(told) for told in json.loads(found.read_text())]


def _translated(manifest: Mapping[str, Any]) -> list[Model]:
    from dagster import AssetKey
    from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, dbt_assets

    class Translator(DagsterDbtTranslator):
        """Models are assets below `marts`; a table of LipService's is the asset that fills it."""

        def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> AssetKey:
            key = super().get_asset_key(dbt_resource_props)
            return key if dbt_resource_props["resource_type"] == "source" else key.with_prefix(GROUP)

        def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
            return str(dbt_resource_props["description"])

    settings = DagsterDbtTranslatorSettings(enable_code_references=False)

    @dbt_assets(manifest=manifest, dagster_dbt_translator=Translator(settings))
    def project() -> Iterator[Any]:
        yield from ()

    found = []
    for spec in sorted(project.specs, key=lambda s: s.key):
        above = sorted(d.asset_key for d in spec.deps)
        found.append(
            Model(
                key=spec.key.path,
                unique_id=str(spec.metadata[UNIQUE_ID]),
                description=str(spec.description),
                code_version=str(spec.code_version),
                tags=spec.tags,
                metadata={k: v for k, v in spec.metadata.items() if isinstance(v, str)},
                columns=[[c.name, c.type, c.description or ""] for c in spec.metadata[_COLUMNS].columns],
                sources=[k.path for k in above if k not in project.keys],
                models=[k.path for k in above if k in project.keys],
                checks=[
                    Check(
                        name=check.name,
                        unique_id=str((check.metadata or {})[UNIQUE_ID]),
                        description=check.description,
                        reads=[d.asset_key.path for d in check.additional_deps],
                        blocking=check.blocking,
                    )
                    for check in project.check_specs
                    if check.asset_key == spec.key
                ],
            )
        )
    return found


if __name__ == "__main__":
    models(Path.cwd() / ".lipservice")
