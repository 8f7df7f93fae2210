"""Policies over HTTP: what is in force is served, a change is seen within a second, other teams see nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from lipservice_dagster.core.boosts import Boost
from lipservice_dagster.core.exports import FORMATS, export
from lipservice_dagster.core.overlay import parse_overlay
from lipservice_dagster.core.policy import document, parse
from lipservice_dagster.storage import boosts, keys, overrides, releases, services
from lipservice_dagster.storage.database import Database
from lipservice_dagster.storage.releases import LIVE, PINNED, SHADOW
from lipservice_dagster_tests.serving.conftest import DAY, PLACED, Answer, Api, eventually, policy, release
from lipservice_sampler.served import read

PATH = "/api/v1/policies/shop?team_id=7&environment=production"
SCOPE = {"team_id": 7, "service": "shop", "environment": "production"}


@pytest.mark.parametrize(("state", "mode"), [(LIVE, "live"), (PINNED, "live"), (SHADOW, "shadow")])
def test_what_is_in_force_is_served_as_the_sampler_reads_it(
    api: Api, database: Database, state: str, mode: str
) -> None:
    made = policy()
    entry = release(database, made, state)
    overrides.add(
        database, 7, "shop", "never_sample", owner="ada", reason="all of it", template=PLACED, environment="production"
    )  # fmt: skip
    answer = api.get(PATH)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    found = read(answer.json, SCOPE, answer.headers["etag"])
    assert (found.mode, found.version, found.refresh_seconds) == (mode, made.version, 30.0)
    assert parse(answer.json["policy"]) == made
    assert [o.says for o in parse_overlay(answer.json["overlay"]).overrides] == ["never sampled"]
    assert datetime.fromisoformat(answer.json["released_at"]) == entry.released_at


def test_a_known_service_without_a_release_keeps_all_and_an_unknown_one_is_not_found(api: Api) -> None:
    assert api.get(PATH).status == 404
    services.add(api.database, 7, "shop", "production")
    answer = api.get(PATH)
    assert {k: answer.json[k] for k in ("mode", "version", "policy", "released_at")} == {
        "mode": "default", "version": "0", "policy": None, "released_at": None,
    }  # fmt: skip
    assert read(answer.json, SCOPE).policy == {"global_rate": 1.0}
    assert api.get("/api/v1/policies/shop?team_id=7").status == 404  # in no environment it is not known


def test_what_has_not_changed_is_answered_with_304(api: Api, database: Database) -> None:
    release(database, policy())
    tag = api.get(PATH).headers["etag"]
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = api.get(PATH, If_None_Match=given)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
    assert api.get(PATH, If_None_Match='"other"').status == 200


def test_a_change_of_release_override_or_boost_is_seen_within_a_second(api: Api, database: Database) -> None:
    services.add(database, 7, "shop", "production")
    seen = {api.get(PATH).headers["etag"]}

    def changed() -> bool:
        tag = api.get(PATH).headers["etag"]
        return tag not in seen and not seen.add(tag)  # type: ignore[func-returns-value]

    now = datetime.now(UTC)
    for change in (
        lambda: release(database, policy(0.3)),
        lambda: release(database, policy(0.3), SHADOW),
        lambda: overrides.add(database, 7, "shop", "never_sample", owner="ada", reason="so"),
        lambda: boosts.add(
            database, [Boost(7, "shop", "production", "", now, now + timedelta(hours=1), 10.0, "", "a spike")]
        ),
    ):
        assert not changed()
        change()
        begun = time.monotonic()
        assert eventually(changed, 5)
        assert time.monotonic() - begun < 1


def test_what_begins_or_ends_by_itself_is_served_from_that_moment_on(api: Api, database: Database) -> None:
    release(database, policy())
    now = datetime.now(UTC)
    span = now + timedelta(seconds=1.0), now + timedelta(seconds=2.0)
    boosts.add(database, [Boost(7, "shop", "production", "", *span, 10.0, "", "a spike")])
    said = []
    while datetime.now(UTC) < span[1] + timedelta(seconds=0.3):
        asked = datetime.now(UTC)
        found = bool(api.get(PATH).json["overlay"]["boosts"])
        said.append((asked, found))
        time.sleep(0.01)
    assert not any(found for asked, found in said if asked > span[1])
    assert not said[0][1]
    assert all(found for asked, found in said if span[0] < asked < span[1] - timedelta(seconds=0.2))


def test_after_the_database_was_away_nothing_old_is_served(api: Api, database: Database) -> None:
    release(database, policy(0.3))
    first = api.get(PATH).json["version"]
    with database.engine.begin() as connection:
        # A change while nobody listens: the listener is cut off, and its word is lost.
        connection.execute(sa.text("ALTER TABLE releases DISABLE TRIGGER releases_tell"))
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'lipservice changes' AND datname = current_database()"
            )
        )
    second = release(database, policy(0.4)).version
    assert first != second
    assert eventually(lambda: api.get(PATH).json["version"] == second, 5)


def test_names_with_slashes_and_no_name_are_services_too(api: Api, database: Database) -> None:
    for name in ("team/shop", "", "a%2Fb", "größe", "history"):
        release(database, policy(service=name, environment=""))
        answer = api.get(f"/api/v1/policies/{quote(name, safe='')}?team_id=7")
        assert (answer.status, answer.json["service"]) == (200, name)
        history = api.get(f"/api/v1/policies/{quote(name, safe='')}/history?team_id=7")
        assert history.json["releases"][0]["service"] == name


def test_another_teams_key_finds_nothing_and_no_key_gets_nowhere(api: Api, database: Database) -> None:
    release(database, policy())
    of_other = api.by("write", 8)
    for path in (PATH, PATH.replace("shop", "shop/history"), PATH.replace("shop", "shop/diff")):
        assert of_other.get(path).status == 404
    body = {"team_id": 7, "environment": "production", "actor": "eve", "reason": "no"}
    assert of_other.post("/api/v1/policies/shop/rollback", body).status == 404
    for given in ("Bearer lsk_wrong", "Bearer ü", "Basic eDp5", "Bearer", ""):
        answer = api.ask("GET", PATH, headers={"Authorization": given})
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_a_revoked_key_is_refused_within_a_second(api: Api, database: Database) -> None:
    services.add(database, 7, "shop", "production")
    key, secret = keys.create(database, 7, "short", "read")
    asked = Api(api.url, database, secret=secret)
    assert asked.get(PATH).status == 200
    with pytest.raises(keys.UnknownKeyError):
        keys.revoke(database, 8, key.id)
    keys.revoke(database, 7, key.id)
    assert eventually(lambda: asked.get(PATH).status == 401, 1)


def test_history_and_diff_tell_what_happened(api: Api, database: Database) -> None:
    made = [release(database, policy(rate)) for rate in (0.2, 0.3, 0.4)]
    answer = api.get(PATH.replace("shop", "shop/history") + "&limit=2")
    assert [e["version"] for e in answer.json["releases"]] == [made[2].version, made[1].version]
    older = api.get(PATH.replace("shop", "shop/history") + f"&limit=2&before={answer.json['next']}")
    assert ([e["version"] for e in older.json["releases"]], older.json["next"]) == ([made[0].version], None)
    diff = api.get(PATH.replace("shop", "shop/diff") + f"&one={made[0].version}&other=in-force")
    assert diff.json["one"] == {"day": str(DAY), "version": made[0].version}
    assert any("0.2" in c and "0.4" in c for c in diff.json["changes"])
    missing = api.get(PATH.replace("shop", "shop/diff") + "&one=ffff")
    assert (missing.status, "has no policy" in missing.json["detail"]) == (404, True)


def test_a_rollback_pins_and_says_who_and_needs_a_key_that_may_write(api: Api, database: Database) -> None:
    first, _ = release(database, policy(0.2)), release(database, policy(0.3))
    body = {"team_id": 7, "environment": "production", "actor": "ada", "reason": "too little"}
    for access in ("read", "report"):
        assert api.by(access).post("/api/v1/policies/shop/rollback", body).status == 403
    answer = api.post("/api/v1/policies/shop/rollback", body)
    assert (answer.status, answer.json["version"], answer.json["state"]) == (200, first.version, "pinned")
    assert releases.history(database, 7, "shop", "production")[0].actor == "ada (key write of 7)"
    assert eventually(lambda: api.get(PATH).json["version"] == first.version, 1)
    assert api.post("/api/v1/policies/shop/rollback", body | {"version": "ffff"}).status == 409
    again = api.post("/api/v1/policies/shop/rollback", body)
    assert (again.status, "rolled back already" in again.json["detail"]) == (409, True)
    assert api.post("/api/v1/policies/none/rollback", body).status == 404


@pytest.mark.parametrize("to", FORMATS)
def test_a_collector_is_given_its_configuration_with_what_stands_over_the_policy(
    api: Api, database: Database, to: str
) -> None:
    path = f"{PATH}&format={to}"
    assert api.get(path).status == 404
    services.add(database, 7, "shop", "production")
    answer = api.get(path)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/yaml")
    assert "# In shadow: everything is kept" in answer.body.decode()
    made = policy()
    release(database, made)
    overrides.add(
        database, 7, "shop", "never_sample", owner="ada", reason="all of it", template=PLACED, environment="production"
    )  # fmt: skip
    overlay = {}

    def seen() -> bool:
        overlay.update(api.get(PATH).json["overlay"])
        return bool(overlay["overrides"]) and f"policy {made.version}" in api.get(path).body.decode()

    assert eventually(seen)
    answer = api.get(path)
    assert answer.body.decode() == export(document(made), overlay, to)
    again = api.get(path, If_None_Match=answer.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert answer.headers["etag"] != api.get(PATH).headers["etag"]
    wrong = api.get(f"{PATH}&format=syslog")
    assert (wrong.status, wrong.json["errors"][0]["field"]) == (422, "query.format")


def test_what_is_held_is_answered_as_what_is_not(api: Api, database: Database) -> None:
    release(database, policy())
    assert api.get(PATH).status == 200  # held from here on
    for path in (PATH, f"{PATH}&format=vector"):
        tag = api.get(path).headers["etag"]
        for more in ({}, {"If_None_Match": tag}, {"If_None_Match": '"other"'}):
            hot, odd = api.get(path, **more), api.get(f"{path}&more=1", **more)  # the route passes over what is more
            assert (hot.status, hot.body) == (odd.status, odd.body)
            assert _lasting(hot) == _lasting(odd)
    other = api.by("read", 8)
    assert other.get("/api/v1/services/?team_id=8").status == 200  # its key is held too
    for path in (PATH, PATH.replace("=7", "=8")):
        assert other.get(path).status == 404
    key, secret = keys.create(database, 7, "soon gone", "report")
    mine = replace(api, secret=secret)
    assert mine.get(PATH).status == 200
    keys.revoke(database, 7, key.id)
    assert eventually(lambda: mine.get(PATH).status == 401)
    assert replace(api, secret=None).get(PATH).status == 401
    assert api.ask("DELETE", PATH).status == 405


def _lasting(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name != "date"}


def test_who_asks_too_often_for_what_is_held_is_told_to_wait(start: Callable[..., Api], database: Database) -> None:
    api = start(api_rate=2).by("read")
    release(database, policy())
    answers = [api.get(PATH) for _ in range(9)]
    assert [a.status for a in answers[:4]] == [200] * 4
    busy = [a for a in answers if a.status == 429]
    assert busy
    assert all(a.headers["content-type"] == "application/problem+json" for a in busy)
    assert all(int(a.headers["retry-after"]) >= 1 for a in busy)
    metrics = api.get("/metrics").body.decode()
    assert f'route="/api/v1/policies/{{service}}",status="429"}} {len(busy)}.0' in metrics
