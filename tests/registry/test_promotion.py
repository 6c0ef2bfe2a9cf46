"""Promotion, rollback and their history, against real stores: SQLite, and a server on PostgreSQL."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow import MlflowClient

from lenet5.core.errors import DataError, Refused, Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.registry import model_versions, promotion
from lenet5.registry.promotion_log import PromotionLog
from lenet5.system.state import LocalState
from lenet5.tracking import tags
from tests.conftest import REPOSITORY
from tests.registry.factory import TEST_DATA, add, params
from tests.tracking.conftest import long_on_server

# of a thousand images; against 40 wrong ones: better, as good, worse
GOOD, SAME, WORSE = range(10), range(30, 70), range(90)
FAIR = range(40)


class Desk:
    """One model in one store, and what a promoter may do with it."""

    def __init__(self, client: MlflowClient, paths: Paths, name: str) -> None:
        self.client, self.paths, self.name = client, paths, name
        self.running: list[subprocess.Popen[str]] = []

    def add(self, wrong: range = FAIR, test_data: str = TEST_DATA) -> int:
        return add(self.client, self.paths, self.name, wrong=wrong, test_data=test_data).number

    def promote(self, wanted: str | None = None, tie: str = "keep", **more: object) -> promotion.Promotion:
        return promotion.promote(self.paths, params(self.name, tie=tie), wanted, **more)  # type: ignore[arg-type]

    def force(self, number: int) -> promotion.Promotion:
        return self.promote(str(number), force=True, reason="a test")

    def rollback(self, to: str | None = None, reason: str = "it reads sevens as ones") -> promotion.Rollback:
        return promotion.rollback(self.paths, params(self.name), to=to, reason=reason)

    def history(self) -> list[tuple[int | None, int | None, str]]:
        """From, to and kind of the moves that happened, the oldest first."""
        lines = reversed(promotion.history(self.paths, params(self.name)))
        return [(line.entry.before, line.entry.to, line.entry.kind) for line in lines if line.happened]

    def aliases(self) -> dict[str, int]:
        return model_versions.aliases(self.client, self.name)

    def astray(self) -> dict[str, str]:
        lines = promotion.history(self.paths, params(self.name))
        return promotion.astray(model_versions.versions(self.client, self.name), lines)

    def hold(self, number: int, method: str) -> "subprocess.Popen[str]":
        """A promoter that stops before its first call of a method, until it is sent a line."""
        promoter = self.start(self.name, str(number), "--hold", method)
        assert promoter.stdout
        while (line := promoter.stdout.readline()) != "held\n":
            assert line, promoter.wait()
        return promoter

    def begin(self, number: int) -> None:
        """A move that is written down, and whose promoter dies before it moves the alias."""
        promoter = self.hold(number, "set_registered_model_alias")
        promoter.kill()
        promoter.communicate()

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """A promoter in a process of its own."""
        promoter = subprocess.Popen(
            [sys.executable, "-m", "tests.registry.promoter", str(self.paths.root), *words],
            cwd=REPOSITORY,
            env=dict(os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.running.append(promoter)
        return promoter

    def end(self) -> None:
        for promoter in self.running:
            with promoter:
                promoter.kill()


@pytest.fixture
def desk(any_client: MlflowClient, any_paths: Paths, model_name: str) -> Iterator[Desk]:
    desk = Desk(any_client, any_paths, model_name)
    yield desk
    desk.end()


@pytest.fixture
def local(client: MlflowClient, paths: Paths, model_name: str) -> Iterator[Desk]:
    """On SQLite only: what does not depend on the store."""
    desk = Desk(client, paths, model_name)
    yield desk
    desk.end()


def test_the_first_version_has_only_the_limits_to_keep(desk: Desk) -> None:
    desk.add()
    done = desk.promote()
    assert done.moved
    assert done.verdict
    assert done.verdict.comparison is None
    assert desk.aliases() == {"champion": 1}
    assert desk.history() == [(None, 1, "promote")]


def test_below_a_floor_the_first_version_is_no_champion_either(local: Desk) -> None:
    local.add(wrong=range(101))
    done = local.promote()
    assert not done.moved
    assert done.verdict
    assert done.verdict.decision == "reject"
    assert "floor of accuracy" in done.verdict.why
    assert local.aliases() == {"challenger": 1}
    assert local.history() == []


def test_better_takes_the_place_of_the_champion_and_the_history_says_why(desk: Desk) -> None:
    desk.add()
    desk.promote()
    desk.add(wrong=GOOD)
    assert desk.promote().moved
    assert desk.aliases() == {"champion": 2, "previous": 1}
    assert desk.history() == [(None, 1, "promote"), (1, 2, "promote")]
    latest = promotion.history(desk.paths, params(desk.name))[0].entry
    assert latest.reason == "it is better than the champion"
    assert latest.figures["gained"] == 30
    assert latest.figures["lost"] == 0
    assert latest.figures["accuracy"] == 0.99
    assert "@" in latest.by
    line = desk.client.get_model_version(f"{desk.name}.history", "2")
    assert "champion: version 1 → version 2 (promote" in line.description
    assert line.tags["what"] == "champion 1 → 2"


@pytest.mark.parametrize(("tie", "champion"), [("keep", 1), ("promote", 2)])
def test_a_tie_is_what_the_parameter_says(local: Desk, tie: str, champion: int) -> None:
    local.add()
    local.promote()
    local.add(wrong=SAME)
    done = local.promote(tie=tie)
    assert done.verdict
    assert "a tie" in done.verdict.why
    assert done.verdict.decision == tie
    assert local.aliases()["champion"] == champion


def test_a_worse_one_is_rejected_and_the_verdict_stays_with_the_version(desk: Desk) -> None:
    desk.add()
    desk.promote()
    desk.add(wrong=WORSE)
    done = desk.promote(tie="promote")
    assert not done.moved
    assert done.verdict
    assert done.verdict.decision == "reject"
    assert desk.aliases() == {"champion": 1, "challenger": 2}
    tags = desk.client.get_model_version(desk.name, "2").tags
    assert tags["gate.decision"].startswith("reject against version 1: ")
    assert "0 images gained, 50 lost of 1,000" in tags["gate.comparison"]


def test_the_gate_can_be_overruled_with_a_reason_only(local: Desk) -> None:
    local.add()
    local.promote()
    local.add(wrong=WORSE)
    with pytest.raises(UsageError, match="give a reason"):
        local.promote("2", force=True, reason=" ")
    assert local.promote("2", force=True, reason="the old one has a licence problem").moved
    assert local.history()[-1] == (1, 2, "force")
    assert (
        promotion.history(local.paths, params(local.name))[0].entry.reason
        == "the old one has a licence problem"
    )


def test_promoting_the_champion_again_changes_nothing(local: Desk) -> None:
    local.add()
    local.promote()
    for wanted in (None, "1", "champion", "@champion"):
        assert not local.promote(wanted).moved
    assert local.history() == [(None, 1, "promote")]


def test_another_alias_has_its_own_gate_and_history(desk: Desk) -> None:
    desk.add()
    desk.add(wrong=GOOD)
    assert desk.promote("1").moved
    assert desk.promote("2", alias="staging").moved
    assert desk.aliases() == {"champion": 1, "challenger": 2, "staging": 2}
    assert desk.history() == [(None, 1, "promote"), (None, 2, "promote")]
    with pytest.raises(UsageError, match="previous is kept by the pipeline"):
        desk.promote("2", alias="previous")


def test_versions_that_do_not_exist_are_named_with_those_that_do(local: Desk) -> None:
    with pytest.raises(UsageError, match="`lenet5 run` makes one"):
        local.promote()
    local.add()
    with pytest.raises(UsageError, match=r"has no version '7'(.|\n)*a version \(1\) or an alias"):
        local.promote("7")


def test_different_test_sets_are_never_compared_by_stored_predictions(local: Desk) -> None:
    local.add()
    local.promote()
    local.add(wrong=GOOD, test_data="e" * 64)
    with pytest.raises(DataError, match="There is no dataset"):  # both would have to be asked, here
        local.promote()
    assert local.aliases() == {"champion": 1, "challenger": 2}


# rollback


def test_rollback_and_the_rollback_of_a_rollback(desk: Desk) -> None:
    desk.add()
    desk.promote()
    desk.add(wrong=GOOD)
    desk.promote()
    done = desk.rollback()
    assert (done.version.number, done.withdrawn) == (1, 2)
    assert desk.aliases() == {"champion": 1, "previous": 2}
    assert desk.rollback(reason="it was the camera").version.number == 2
    assert desk.aliases() == {"champion": 2, "previous": 1}
    assert desk.history() == [
        (None, 1, "promote"),
        (1, 2, "promote"),
        (2, 1, "rollback"),
        (1, 2, "rollback"),
    ]


def test_rollback_reaches_further_back_and_only_to_former_champions(local: Desk) -> None:
    for wrong in (range(60), FAIR, GOOD):
        local.add(wrong=wrong)
        local.promote()
    local.add(wrong=WORSE)
    with pytest.raises(UsageError, match=r"version 4(.|\n)*was champion before: 2, 1"):
        local.rollback(to="4")
    assert local.rollback(to="1").version.number == 1
    assert local.history()[-1] == (3, 1, "rollback")


def test_rollback_needs_a_reason_and_somewhere_to_go(local: Desk) -> None:
    local.add()
    with pytest.raises(UsageError, match="There is no champion"):
        local.rollback()
    local.promote()
    with pytest.raises(UsageError, match="nothing to go back to"):
        local.rollback()
    with pytest.raises(UsageError, match="needs a reason"):
        local.rollback(reason="")


def test_what_was_rolled_back_is_not_promoted_again_unless_forced(desk: Desk) -> None:
    desk.add()
    desk.promote()
    desk.add(wrong=GOOD)
    desk.promote()
    desk.rollback()
    again = desk.promote("2")
    assert not again.moved
    assert again.verdict
    assert again.verdict.decision == "keep"
    assert "it was rolled back on" in again.verdict.why
    assert "sevens as ones" in again.verdict.why
    assert desk.force(2).moved
    desk.add(wrong=range(2))
    desk.promote()
    assert desk.aliases() == {"champion": 3, "previous": 2}


# files that are not as they were registered


def harm(desk: Desk, name: str, how: str, which: int) -> None:
    run_id = model_versions.find(desk.client, desk.name, str(which)).run_id
    places = [p for p in desk.paths.root.rglob(name) if run_id in p.read_text() or name != "model.keras"]
    for place in places:
        place.write_text("something else") if how == "changed" else place.unlink()
    assert places


@pytest.mark.parametrize("how", ["changed", "gone"])
def test_a_harmed_model_is_neither_promoted_nor_rolled_back_to_nor_loaded(
    local: Desk, tmp_path: Path, how: str
) -> None:
    for wrong in (range(60), FAIR, GOOD):
        local.add(wrong=wrong)
    local.promote("1")
    local.promote("2")
    harm(local, "model.keras", how, which=3)
    for force in (False, True):
        with pytest.raises(DataError, match="model file of .* version 3 is not the one that was registered"):
            local.promote("3", force=force, reason="a test")
    with pytest.raises(DataError, match="is not the one that was registered"):
        model_versions.download(
            local.client, model_versions.find(local.client, local.name, "3"), tmp_path / "here"
        )
    harm(local, "model.keras", how, which=1)
    with pytest.raises(DataError, match="version 1 is not the one that was registered"):
        local.rollback()
    assert local.aliases() == {"champion": 2, "previous": 1, "challenger": 3}
    assert local.history() == [(None, 1, "promote"), (1, 2, "promote")]


def test_a_file_added_beside_the_model_is_seen(local: Desk) -> None:
    local.add()
    [described] = (LocalState(local.paths.root).mlflow).rglob("MLmodel")
    (described.parent / "custom_objects.cloudpickle").write_text("an attack")
    with pytest.raises(DataError, match=r"model folder(.|\n)*custom_objects.cloudpickle"):
        local.promote()
    assert local.aliases() == {"challenger": 1}


def test_tampered_predictions_are_not_believed(local: Desk) -> None:
    local.add(wrong=WORSE)
    [stored] = (LocalState(local.paths.root).mlflow).rglob("predictions.parquet")
    stored.write_bytes(stored.read_bytes().replace(b"PAR1", b"PAR2"))
    with pytest.raises(DataError, match="There is no dataset"):  # the model is asked instead
        local.promote()
    assert local.aliases() == {"challenger": 1}


def test_a_version_from_elsewhere_is_not_promoted(local: Desk) -> None:
    local.client.create_registered_model(local.name)
    local.client.create_model_version(local.name, str(local.paths.root / "somewhere"))
    with pytest.raises(DataError):
        local.promote("1", force=True, reason="a test")
    assert local.aliases() == {}


# moves outside the gate


def test_an_alias_moved_by_hand_is_noticed_and_the_history_goes_on_from_there(desk: Desk) -> None:
    desk.add()
    desk.promote()
    desk.add(wrong=SAME)
    assert desk.astray() == {}
    desk.client.set_registered_model_alias(desk.name, "champion", "2")
    assert "moved outside the gate: to version 2; the history says version 1" in desk.astray()["champion"]
    assert desk.history() == [(None, 1, "promote")]
    desk.add(wrong=GOOD)
    desk.promote()
    assert desk.history() == [(None, 1, "promote"), (1, 2, "outside"), (2, 3, "promote")]
    assert desk.astray() == {}


def test_an_alias_taken_away_or_set_before_the_history_began_is_noticed(desk: Desk) -> None:
    desk.add()
    desk.client.set_registered_model_alias(desk.name, "champion", "1")
    assert "to version 1; the history says none" in desk.astray()["champion"]
    desk.add(wrong=GOOD)
    desk.promote()
    desk.client.delete_model_version(desk.name, "2")  # takes its alias with it
    assert "to none; the history says version 2" in desk.astray()["champion"]
    desk.promote("1")
    assert desk.history() == [
        (None, 1, "outside"),
        (1, 2, "promote"),
        (2, None, "outside"),
        (None, 1, "promote"),
    ]


# several promoters, and promoters that die


@long_on_server
def test_of_promoters_at_the_same_time_one_wins_and_the_others_are_told(desk: Desk) -> None:
    desk.add()
    desk.promote()
    rivals = [desk.add(wrong=GOOD) for _ in range(3)]
    processes = [desk.hold(rival, "create_model_version") for rival in rivals]
    for process in processes:  # each has looked, asked the gate, and is about to write its move down
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    told = {rival: p.communicate(timeout=60)[0] for rival, p in zip(rivals, processes, strict=True)}
    won = [rival for rival, p in zip(rivals, processes, strict=True) if p.returncode == 0]
    assert len(won) == 1, told
    assert sorted(p.returncode for p in processes) == [0, Refused.exit_code, Refused.exit_code]
    for rival in set(rivals) - set(won):
        assert "another promoter was faster" in told[rival]
        assert f"version {won[0]} by " in told[rival]
    assert desk.history() == [(None, 1, "promote"), (1, won[0], "promote")]
    assert desk.aliases()["champion"] == won[0]
    assert desk.astray() == {}


@long_on_server
def test_a_promoter_killed_between_any_two_writes_leaves_one_champion_and_a_true_history(desk: Desk) -> None:
    left = set()
    promoter = desk.start()
    assert promoter.stdin
    assert promoter.stdout
    for writes in range(30):
        each = Desk(desk.client, desk.paths, f"{desk.name}-{writes}")
        each.add()
        each.promote()
        each.add(wrong=GOOD)
        promoter.stdin.write(f"{each.name} 2 {writes}\n")
        promoter.stdin.flush()
        ended = int(promoter.stdout.readline())
        champion = each.aliases()["champion"]
        moves = each.history()
        assert moves[-1][1] == champion
        assert moves in ([(None, 1, "promote")], [(None, 1, "promote"), (1, 2, "promote")])
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        left.add((champion, len(PromotionLog(each.client, each.name).entries())))
        # the next one ends what was begun, and goes on
        each.add(wrong=range(1))
        each.promote("3")
        assert each.aliases() == {"champion": 3, "previous": each.history()[-2][1]}
        assert [to for _, to, _ in each.history()] in ([1, 3], [1, 2, 3])
        assert each.astray() == {}
    else:
        raise AssertionError("it never came to its end")
    # killed before the move was written down, between that and the alias, and after the alias
    assert left == {(1, 1), (1, 2), (2, 2)}


def test_a_move_that_was_begun_is_told_as_such_until_it_is_ended(local: Desk) -> None:
    local.add()
    local.promote()
    local.add(wrong=GOOD)
    local.begin(2)
    assert local.aliases() == {"champion": 1, "challenger": 2}
    assert local.astray() == {
        "champion": "a move to version 2 was begun and not ended; the next one ends it first"
    }
    [begun, first] = promotion.history(local.paths, params(local.name))
    assert (begun.entry.to, begun.happened) == (2, False)
    assert first.happened
    assert local.rollback().withdrawn == 2
    assert local.history() == [(None, 1, "promote"), (1, 2, "promote"), (2, 1, "rollback")]


def test_a_begun_move_to_a_version_that_was_harmed_since_is_given_up(local: Desk) -> None:
    local.add()
    local.promote()
    local.add(wrong=GOOD)
    local.begin(2)
    harm(local, "model.keras", "gone", which=2)
    local.add(wrong=GOOD)
    assert local.promote("3").moved
    assert local.history() == [(None, 1, "promote"), (1, 1, "abandon"), (1, 3, "promote")]


@long_on_server
def test_a_slow_promoter_does_not_undo_what_came_after_it(desk: Desk) -> None:
    desk.add()
    desk.promote()
    desk.add(wrong=GOOD)
    slow = desk.hold(2, "set_registered_model_alias")
    # its move is written down, its alias not moved yet
    desk.add(wrong=range(1))
    desk.promote("3")  # ends the slow one's move, then makes its own
    slow.communicate("\n", timeout=60)
    assert slow.returncode == 0
    assert desk.aliases()["champion"] == 3
    assert desk.history() == [(None, 1, "promote"), (1, 2, "promote"), (2, 3, "promote")]
    assert desk.astray() == {}


@pytest.mark.parametrize("look", ["last", "versions"])
def test_what_is_promoted_while_this_one_looks_is_neither_overlooked_nor_called_a_hand_move(
    local: Desk, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    local.add()
    local.promote()
    local.add(wrong=range(30))
    local.add(wrong=GOOD)
    owner = PromotionLog if look == "last" else model_versions
    real = getattr(owner, look)

    def while_looking(*arguments: Any) -> Any:
        monkeypatch.setattr(owner, look, real)
        seen = real(*arguments)  # and then it happens, before the other look
        local.force(2)
        return seen

    monkeypatch.setattr(owner, look, while_looking)
    if look == "last":
        done = local.force(3)
        assert done.verdict
        assert done.verdict.comparison
        assert done.verdict.comparison.gained == 20  # against version 2, which reads 30 wrong
        assert local.history() == [(None, 1, "promote"), (1, 2, "promote"), (2, 3, "promote")]
    else:
        with pytest.raises(Refused, match="another promoter was faster"):
            local.force(3)
        assert local.history() == [(None, 1, "promote"), (1, 2, "promote")]
    assert local.astray() == {}


def test_a_request_that_is_sent_twice_is_one_move(local: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    local.add()
    real = MlflowClient.create_model_version

    def twice(*arguments: Any, **named: Any) -> Any:  # as after a 502 whose request had arrived
        real(*arguments, **named)
        return real(*arguments, **named)

    with monkeypatch.context() as doubled:
        doubled.setattr(MlflowClient, "create_model_version", twice)
        assert local.promote().moved
    assert local.history() == [(None, 1, "promote")]
    assert local.astray() == {}


def test_a_store_that_does_not_answer_is_not_taken_for_tampering(
    local: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.add()
    local.promote()
    local.add(wrong=GOOD)
    local.begin(2)

    def silent(*_: Any, **__: Any) -> Any:
        raise requests.ConnectionError("nobody there")

    with monkeypatch.context() as down:
        down.setattr(model_versions, "download_artifacts", silent)
        with pytest.raises(Unavailable):
            local.rollback()
    assert local.astray()["champion"].startswith("a move to version 2 was begun")  # and was not given up
    assert local.promote("2").holder
    assert local.history() == [(None, 1, "promote"), (1, 2, "promote")]


@pytest.mark.parametrize("alias", ["@previous", "challenger", "latest", "v2", "1", "", "a b"])
def test_an_alias_that_cannot_be_is_refused_before_anything_is_written(local: Desk, alias: str) -> None:
    local.add()
    with pytest.raises(UsageError):
        local.promote("1", alias=alias)
    with pytest.raises(UsageError):
        promotion.rollback(local.paths, params(local.name), reason="a test", alias=alias)
    assert local.history() == []
    assert local.aliases() == {"challenger": 1}


def test_a_number_is_a_version_even_where_an_alias_looks_like_one(local: Desk) -> None:
    local.add()
    local.add(wrong=GOOD)
    local.client.set_registered_model_alias(local.name, "1", "2")
    assert local.promote("1").version.number == 1
    assert model_versions.find(local.client, local.name, "@1").number == 2


def test_a_history_that_was_meddled_with_is_told_or_goes_on(local: Desk) -> None:
    local.add()
    local.promote()
    local.add(wrong=GOOD)
    local.promote()
    local.client.delete_model_version(f"{local.name}.history", "2")
    assert local.history() == [(None, 1, "promote")]
    assert "moved outside the gate: to version 2; the history says version 1" in local.astray()["champion"]
    local.rollback()
    assert local.history()[1:] == [(1, 2, "outside"), (2, 1, "rollback")]
    local.client.set_model_version_tag(f"{local.name}.history", "1", "move", "{}")
    with pytest.raises(DataError, match="version 1 of .*history is no move"):
        local.history()


def test_a_model_whose_versions_were_all_deleted_is_told(local: Desk) -> None:
    local.add()
    local.promote()
    local.client.delete_model_version(local.name, "1")
    with pytest.raises(UsageError, match="`lenet5 run` makes one"):
        local.promote()


def test_a_version_without_recorded_files_is_never_taken_for_whole(local: Desk) -> None:
    version = local.add()
    local.client.delete_model_version_tag(local.name, str(version), tags.MODEL_FOLDER)
    with pytest.raises(DataError, match="cannot be trusted"):
        local.promote()


def test_a_forced_return_that_was_given_up_does_not_lift_a_rollback(local: Desk) -> None:
    local.add()
    local.promote()
    local.add(wrong=GOOD)
    local.promote()
    local.rollback()
    local.begin(2)
    run_id = model_versions.find(local.client, local.name, "2").run_id
    [model] = (p for p in local.paths.root.rglob("model.keras") if p.read_text() == run_id)
    stored = model.parents[1] / "MLmodel"
    kept = stored.read_bytes()
    stored.write_text("something else")
    assert not local.promote("2").moved
    stored.write_bytes(kept)
    assert local.history()[-1] == (1, 1, "abandon")
    assert local.aliases() == {"champion": 1, "previous": 2}
    again = local.promote("2")
    assert again.verdict
    assert "it was rolled back on" in again.verdict.why
