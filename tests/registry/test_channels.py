"""Channels: promoted, rolled back, moved by one person at a time, and kept with their history."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from defect_assets.cli import app
from defect_assets.home import Home
from defect_assets.registry.channels import (
    ChannelRefused,
    Move,
    channels,
    leads_to,
    moves,
    promote,
    rollback,
    standing,
)
from defect_assets.registry.checkout import identity
from defect_assets.store import Store, open_store
from defect_assets.store.collect import collect
from defect_assets.store.digest import object_key
from defect_assets.store.transfer import plan_transfer, transfer
from defect_assets.store.verify import verify
from tests.checkouts import git
from tests.releases import publish_release
from tests.small import damage

VERSIONS = ["v0.1.0", "v0.2.0", "v0.3.0"]
ANN, BOB = "Ann <ann@example.com>", "Bob <bob@example.com>"


@pytest.fixture
def released(store: Store) -> dict[str, str]:
    """Three releases, by their version."""
    return {version: publish_release(store, version, n) for n, version in enumerate(VERSIONS)}


def test_a_channel_leads_where_it_was_promoted_and_says_who_when_and_why(
    store: Store, released: dict[str, str]
) -> None:
    assert channels(store) == []
    promote(store, "production", "v0.1.0", ANN, "the first one")
    promote(store, "production", "v0.2.0", BOB, "finds cracks")
    assert channels(store) == ["production"]
    assert store.content("channels/production") == released["v0.2.0"]
    assert leads_to(store, "production").id == leads_to(store, "v0.2.0").id == "v0.2.0"
    newest, first = moves(store, "production")
    assert (newest.release, newest.by, newest.why) == ("v0.2.0", BOB, "finds cracks")
    assert (first.release, first.by, first.why) == ("v0.1.0", ANN, "the first one")
    assert first.at <= newest.at


def test_a_rollback_leads_to_the_same_digest_and_the_next_one_further_back(
    store: Store, released: dict[str, str]
) -> None:
    for version in VERSIONS:
        promote(store, "production", version, ANN, "better")
    assert rollback(store, "production", BOB, "misses holes").digest == released["v0.2.0"]
    assert store.content("channels/production") == released["v0.2.0"]
    assert rollback(store, "production", BOB, "misses them, too").release == "v0.1.0"
    with pytest.raises(ChannelRefused, match=r"nothing before v0\.1\.0"):
        rollback(store, "production", BOB, "still")
    promote(store, "production", "v0.3.0", ANN, "mended")
    assert rollback(store, "production", BOB, "no, not mended").release == "v0.1.0"
    assert len(moves(store, "production")) == 7


def test_what_was_never_promoted_is_not_rolled_back(store: Store) -> None:
    with pytest.raises(ChannelRefused, match="nothing was ever promoted to production"):
        rollback(store, "production", ANN, "it should have been")


@given(steps=st.lists(st.sampled_from([*VERSIONS, "rollback"]), max_size=12))
def test_a_channel_is_a_stack_of_promotions(steps: list[str]) -> None:
    past: list[Move] = []
    stack: list[str] = []
    for step in steps:
        if step == "rollback":
            if len(stack) < 2:
                continue
            stack.pop()
        elif stack[-1:] == [step]:
            continue  # it leads there already
        else:
            stack.append(step)
        move = Move.model_validate(
            {
                "channel": "production",
                "action": "rollback" if step == "rollback" else "promote",
                "release": stack[-1],
                "digest": "0" * 64,
                "by": ANN,
                "why": "so",
                "at": "2026-01-01T00:00:00Z",
            }
        )
        past.insert(0, move)
    assert [move.release for move in standing(past)] == stack[::-1]
    assert past[:1] == [] or past[0].release == stack[-1]


def test_to_promote_what_is_there_already_changes_nothing(
    store: Store, released: dict[str, str]
) -> None:
    assert promote(store, "production", "v0.1.0", ANN, "the first one")
    before = store.refs.get("channels/production")
    assert promote(store, "production", "v0.1.0", BOB, "again") is None
    assert store.refs.get("channels/production") == before


def test_a_script_says_what_it_compared_with(store: Store, released: dict[str, str]) -> None:
    with pytest.raises(ChannelRefused, match=r"leads to nothing, not to v0\.1\.0"):
        promote(store, "production", "v0.2.0", ANN, "better", expect="v0.1.0")
    promote(store, "production", "v0.3.0", BOB, "in a hurry")
    with pytest.raises(ChannelRefused, match=r"not to v0\.1\.0; Bob .* promoted v0\.3\.0"):
        promote(store, "production", "v0.2.0", ANN, "better", expect="v0.1.0")
    assert promote(store, "production", "v0.2.0", ANN, "better", expect="v0.3.0")


class _AtOnce:
    """A backend in which nobody moves a name before all have made up their minds."""

    def __init__(self, inner: object, everyone: threading.Barrier) -> None:
        self._inner = inner
        self._everyone = everyone

    def swap(self, key: str, expected: bytes | None, data: bytes) -> bool:
        if key.startswith("refs/channels/"):
            self._everyone.wait(20)
        return self._inner.swap(key, expected, data)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


@pytest.mark.parametrize("first", ["v0.1.0", None])
def test_of_several_promotions_at_once_one_wins_and_the_others_are_told_who(
    store: Store, released: dict[str, str], first: str | None
) -> None:
    if first:
        promote(store, "production", first, ANN, "the first one")
    people = 4
    everyone = threading.Barrier(people)
    shared = Store(_AtOnce(store.backend, everyone))  # type: ignore[arg-type]

    def one(n: int) -> Move | ChannelRefused | None:
        try:
            return promote(shared, "production", VERSIONS[1 + n % 2], f"person {n}", "mine")
        except ChannelRefused as error:
            return error

    with ThreadPoolExecutor(people) as pool:
        outcomes = list(pool.map(one, range(people)))
    [winner] = [outcome for outcome in outcomes if isinstance(outcome, Move)]
    losers = [outcome for outcome in outcomes if isinstance(outcome, ChannelRefused)]
    assert len(losers) == people - 1
    for loser in losers:
        assert f"{winner.by} promoted {winner.release}" in str(loser)
    assert store.content("channels/production") == released[winner.release]
    assert len(moves(store, "production")) == (2 if first else 1)


def test_two_commands_at_once_leave_one_history(
    tmp_path: Path, store: Store, released: dict[str, str]
) -> None:
    """In processes of their own: whoever comes second builds on the first, or is refused."""
    environment = {
        **os.environ,
        "DEFECT_HOME": str(tmp_path / "home"),
        "DEFECT_STORE": str(tmp_path / "store"),
    }
    commands = [
        [sys.executable, "-m", "defect_assets", "promote", version, "production", "--why", "mine"]
        for version in VERSIONS[:2]
    ]
    running = [subprocess.Popen(c, env=environment, stderr=subprocess.PIPE) for c in commands]
    failed = [process for process in running if process.wait(120)]
    won = len(running) - len(failed)
    assert won >= 1
    assert len(moves(store, "production")) == won
    for process in failed:
        assert b"someone else was faster" in process.stderr.read()  # type: ignore[union-attr]


def test_a_release_that_is_unknown_or_damaged_is_not_promoted(
    tmp_path: Path, store: Store, released: dict[str, str]
) -> None:
    with pytest.raises(ChannelRefused, match=r"no release v9\.9\.9; known: v0\.1\.0, v0\.2\.0"):
        promote(store, "production", "v9.9.9", ANN, "a guess")
    promote(store, "production", "v0.1.0", ANN, "sound")
    promote(store, "production", "v0.2.0", ANN, "sound")
    release = leads_to(store, "v0.1.0")
    weights = store.objects.get_json(release.bundle)["model.safetensors"]
    damage(tmp_path / "store" / object_key(weights))
    for attempt in (
        lambda: promote(store, "staging", "v0.1.0", ANN, "not looked at"),
        lambda: rollback(store, "production", ANN, "not looked at"),
    ):
        with pytest.raises(ChannelRefused, match=r"v0\.1\.0 is damaged.*--repair-from"):
            attempt()
    assert channels(store) == ["production"]
    assert leads_to(store, "production").id == "v0.2.0"


@pytest.mark.parametrize("name", ["", "Production", "a/b", "../x", "v0.1.0", "1st", "a b", "-x"])
def test_what_is_no_name_is_refused(store: Store, name: str, released: dict[str, str]) -> None:
    with pytest.raises(ChannelRefused, match="is no name of a channel"):
        promote(store, name, "v0.1.0", ANN, "so")
    with pytest.raises(ChannelRefused, match="is no name of a channel"):
        rollback(store, name, ANN, "so")


def test_a_move_without_a_reason_is_refused(store: Store, released: dict[str, str]) -> None:
    with pytest.raises(ChannelRefused, match="say why"):
        promote(store, "production", "v0.1.0", ANN, " ")


def test_what_a_channel_led_to_is_never_garbage(
    tmp_path: Path, store: Store, released: dict[str, str]
) -> None:
    promote(store, "production", "v0.1.0", ANN, "the first one")
    promote(store, "production", "v0.2.0", ANN, "better")
    # Even if nothing else leads there any more.
    for version in ("v0.1.0", "v0.2.0"):
        (tmp_path / "store" / "refs" / "releases" / version).unlink()
    collect(store, grace_hours=0)
    assert verify(store).damages == ()
    found = leads_to(store, "production")
    assert set(store.objects.get_tree(found.bundle)) > {"model.safetensors"}
    store.objects.get_tree(
        leads_to(store, "production")
        .model_validate(store.objects.get_json(released["v0.1.0"]))
        .bundle
    )
    with pytest.raises(ChannelRefused, match=r"no release v0\.3\.9"):
        promote(store, "production", "v0.3.9", ANN, "a guess")


def push(source: Store, destination: Store) -> dict[str, str]:
    plan = plan_transfer(source, destination)
    transfer(source, destination, plan)
    return plan.conflicts


def test_a_copy_takes_a_channel_along_with_its_history(
    tmp_path: Path, store: Store, released: dict[str, str]
) -> None:
    other = open_store(str(tmp_path / "other"))
    promote(store, "production", "v0.1.0", ANN, "the first one")
    assert push(store, other) == {}
    assert moves(other, "production") == moves(store, "production")
    promote(store, "production", "v0.2.0", ANN, "better")
    assert push(store, other) == {}
    assert rollback(other, "production", BOB, "worse").release == "v0.1.0"
    # The other one is ahead: it is not taken back, and comes along when it is fetched.
    assert push(store, other) == {}
    assert leads_to(other, "production").id == "v0.1.0"
    assert push(other, store) == {}
    assert moves(store, "production") == moves(other, "production")


def test_a_channel_that_was_moved_on_both_sides_is_left_and_reported(
    tmp_path: Path, store: Store, released: dict[str, str]
) -> None:
    other = open_store(str(tmp_path / "other"))
    promote(store, "production", "v0.1.0", ANN, "the first one")
    push(store, other)
    promote(store, "production", "v0.2.0", ANN, "better")
    promote(other, "production", "v0.3.0", BOB, "better")
    assert list(push(store, other)) == ["channels/production"]
    assert leads_to(other, "production").id == "v0.3.0"
    assert leads_to(store, "production").id == "v0.2.0"
    # Once both sides agree again, there is nothing to report.
    promote(store, "production", "v0.3.0", ANN, "as it is there")
    assert push(store, other) == {}


def test_who_is_at_work_is_whom_git_would_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("LOGNAME", "ann")
    git(tmp_path, "init", "--quiet")
    assert identity(tmp_path) == "ann"
    git(tmp_path, "config", "user.name", "Ann van Example")
    git(tmp_path, "config", "user.email", "ann@example.com")
    assert identity(tmp_path) == "Ann van Example <ann@example.com>"


runner = CliRunner()


@pytest.fixture
def commands(home: Home, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The home's store, which the commands use."""
    monkeypatch.setenv("DEFECT_HOME", str(home.root))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("GIT_COMMITTER_NAME", "Ann [x]")
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "ann@example.com")
    store = home.store()
    for n, version in enumerate(VERSIONS):
        publish_release(store, version, n)
    return store


def run(*arguments: str, code: int = 0) -> str:
    result = runner.invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def test_the_commands_promote_roll_back_and_tell(commands: Store) -> None:
    assert "no channel yet" in run("channels")
    assert "production leads to v0.1.0 now" in run(
        "promote", "v0.1.0", "production", "--why", "the [first] one"
    )
    run("promote", "v0.2.0", "production", "--why", "better")
    again = run("promote", "v0.2.0", "production", "--why", "better")
    assert "leads to v0.2.0 already" in again
    assert "by Ann [x] <ann@example.com>: better" in again
    run("promote", "v0.3.0", "staging", "--why", "a trial")
    shown = run("channels")
    assert "production v0.2.0" in shown
    assert "a rollback leads to v0.1.0" in shown
    assert "staging v0.3.0" in shown
    assert "production leads to v0.1.0 again" in run("rollback", "production", "--why", "worse")
    past = json.loads(run("channels", "production", "--json"))
    assert [(move["action"], move["release"]) for move in past] == [
        ("rollback", "v0.1.0"),
        ("promote", "v0.2.0"),
        ("promote", "v0.1.0"),
    ]
    assert "the [first] one" in run("channels", "production")
    assert [m["channel"] for m in json.loads(run("channels", "--json"))] == [
        "production",
        "staging",
    ]
    assert "nothing was ever promoted to trial" in run("channels", "trial", code=1)
    run("promote", "v0.1.0", "production", code=2)  # it does not say why


def test_what_is_served_is_what_is_in_production(
    commands: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from defect_assets import cli
    from defect_assets.registry import packaging

    started: list[str] = []
    monkeypatch.setattr(packaging, "bento_folder", lambda *_: tmp_path)
    monkeypatch.setattr(cli, "_become", lambda command, _: started.append(command[2]))
    said = run("serve", "--port", "3999")
    assert "the newest release, since nothing is in production" in said
    run("promote", "v0.1.0", "production", "--why", "so")
    run("promote", "v0.2.0", "staging", "--why", "so")
    assert "which is in production" in run("serve", "--port", "3999")
    run("serve", "--release", "staging", "--port", "3999")
    run("serve", "--release", "v0.3.0", "--port", "3999")
    assert started == [f"defect_detector:v0.{n}.0" for n in (3, 1, 2, 3)]
    assert "no release and no channel trial; known: v0.1.0" in run(
        "serve", "--release", "trial", code=1
    )
