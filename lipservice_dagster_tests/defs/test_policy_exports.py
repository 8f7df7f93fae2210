"""What is in force lies in files for collectors; a run writes what has changed and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipservice_dagster.core.exports import FORMATS, export
from lipservice_dagster.core.overlay import overlay_document
from lipservice_dagster.storage import export_files, overrides, releases
from lipservice_dagster.storage.releases import LIVE, Release
from lipservice_dagster.storage.served import served
from lipservice_dagster_tests.defs.conftest import World
from lipservice_dagster_tests.logs import at, log, store

FIRST, SECOND = date(2026, 9, 1), date(2026, 9, 2)


def files(found: World) -> dict[str, tuple[str, int]]:
    """Content and time of change of every file below the folder."""
    folder = found.graph.settings.exports()
    return {str(f.relative_to(folder)): (f.read_text(), f.stat().st_mtime_ns) for f in folder.rglob("*") if f.is_file()}


def expected(found: World, to: str) -> str:
    what = served(found.database, 7, "shop", "", datetime.now(UTC))
    return export(what.document, overlay_document(what.overlay), to, mode=what.mode)


@pytest.fixture
def found(world: Callable[..., World]) -> World:
    made = world()
    for day in (FIRST, SECOND):
        store(made.store, {7: [log(f"order {n} placed", timestamp=at(n % 24, day)) for n in range(2_000)]})
    made.run(7, FIRST, SECOND)
    return made


def test_a_run_writes_what_is_in_force_and_leaves_alone_what_has_not_changed(found: World) -> None:
    names = {f"team-7/shop@.{to}.yaml" for to in FORMATS}
    before = files(found)
    assert before.keys() == names
    assert all("In shadow" in text for text, _ in before.values())
    made, version, document = releases.computed(found.database, 7, "shop", "")
    releases.add_by_hand(found.database, Release(7, "shop", "", made, version, LIVE, document, "ada", "checked"))
    overrides.add(found.database, 7, "shop", "never_sample", owner="ada", reason="so", template="order <*> placed")
    found.materialise(7, SECOND, "policy_exports")
    changed = files(found)
    assert {name: text for name, (text, _) in changed.items()} == {
        f"team-7/shop@.{to}.yaml": expected(found, to) for to in FORMATS
    }
    assert all(changed[name] != before[name] for name in names)
    found.run(7, FIRST)  # neither does an old day move what is in force
    assert files(found) == changed


def test_no_format_no_file(world: Callable[..., World]) -> None:
    made = world(export_formats=[])
    store(made.store, {7: [log("tick", timestamp=at(1, FIRST))]})
    made.run(7, FIRST)
    assert files(made) == {}


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=300) | st.sampled_from(
    ["", ".", "..", "../..", "/etc/passwd", "a@b", "a%40b", "%", "a/b", "größe" * 60]
)


@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=5, unique=True))
def test_every_service_has_a_file_of_its_own_within_its_teams_folder(scopes: list[tuple[str, str]]) -> None:
    folder = Path("/exports")
    found = [export_files.path(folder, 7, service, environment, "vector") for service, environment in scopes]
    assert len(set(found)) == len(scopes)
    for file in found:
        assert file.parent == folder / "team-7"
        assert file.resolve() == file
        assert len(file.name.encode()) <= 255


def test_a_reader_never_finds_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "team-7" / "shop@.vector.yaml"
    assert export_files.write(file, "old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk is full")))
    with pytest.raises(OSError, match="full"):
        export_files.write(file, "new")
    assert [f.name for f in file.parent.iterdir()] == [file.name]
    assert file.read_text() == "old"
    assert not export_files.write(file, "old")
