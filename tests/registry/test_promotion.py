"""Promotion, rollback and history with real stores: SQLite, and a server on PostgreSQL."""

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow.artifacts
import pytest
import requests
from mlflow import MlflowClient

import lenet5
from lenet5.core.errors import DataError, Refused, Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.model import metrics
from lenet5.registry import model_versions, promotion, promotion_history
from lenet5.registry.promotion_log import PromotionLog
from lenet5.stages.params import Params
from lenet5.system import settings
from lenet5.system.state import LocalState
from lenet5.tracking import store, tags
from lenet5.tracking.embedded_client import NeedsMlflowError
from tests.registry.embedded_store import EmbeddedStore
from tests.registry.factory import LABELS, TEST_DATA, add, add_model, params, probabilities
from tests.registry.promoter import Promoter, stop_server
from tests.tracking.conftest import long_on_server

# misclassified images of 1000: FAIR for the first champion, then a better, an equal and a worse version
GOOD, SAME, WORSE = range(10), range(30, 70), range(90)
FAIR = range(40)
MODEL = "digits"
"""Name of the model in an embedded store. The models of a server have names of their own."""


class Registry:
    """One model in one store, with short calls for the tests.

    Args:
        client: A connection to the store.
        paths: The checkout.
        name: Name of the model.
        restore_champion: Replaces the store by one that has this model with a champion; None on a server.
    """

    def __init__(
        self,
        client: MlflowClient,
        paths: Paths,
        name: str,
        restore_champion: Callable[[], None] | None = None,
    ) -> None:
        self.client, self.paths, self.name = client, paths, name
        self._restore_champion = restore_champion
        self._promoters: list[Promoter] = []

    def another(self, suffix: object) -> "Registry":
        """Return a model without versions. In an embedded store it replaces this one at ``add_champion``."""
        name = self.name if self._restore_champion else f"{self.name}-{suffix}"
        another = Registry(self.client, self.paths, name, self._restore_champion)
        another._promoters = self._promoters
        return another

    def add_champion(self) -> None:
        """Register a first version that misclassifies the images ``FAIR``, and promote it."""
        if self._restore_champion:
            self._restore_champion()
        else:
            self.add()
            self.promote()

    def add(self, wrong: range = FAIR, test_data: str = TEST_DATA) -> int:
        """Register a version that misclassifies the images ``wrong``; return its number."""
        return add(self.client, self.paths, self.name, wrong=wrong, test_data=test_data).number

    def promote(self, wanted: str | None = None, tie: str = "keep", **more: object) -> promotion.Promotion:
        return promotion.promote(self.paths, params(self.name, tie=tie), wanted, **more)  # type: ignore[arg-type]

    def force(self, number: int) -> promotion.Promotion:
        return self.promote(str(number), force=True, reason="a test")

    def rollback(self, to: str | None = None, reason: str = "it reads sevens as ones") -> promotion.Rollback:
        return promotion.rollback(self.paths, params(self.name), to=to, reason=reason)

    def changes(self) -> list[promotion_history.HistoryEntry]:
        return promotion_history.history(self.paths, params(self.name))

    def history(self) -> list[tuple[int | None, int | None, str]]:
        """Return before, to and kind of the changes that happened, the oldest first."""
        return [
            (change.entry.before, change.entry.to, change.entry.kind)
            for change in reversed(self.changes())
            if change.happened
        ]

    def aliases(self) -> dict[str, int]:
        return model_versions.aliases(self.client, self.name)

    def drifted(self) -> dict[str, str]:
        return promotion_history.drifted(model_versions.versions(self.client, self.name), self.changes())

    def start_held(self, number: int, method: str) -> Promoter:
        """Start a promoter, and wait until it is held before its first call of a method."""
        promoter = self.start(number, hold=method)
        promoter.wait_until_held()
        return promoter

    def leave_pending(self, number: int) -> None:
        """Append a change to the log whose promoter dies before it moves the alias."""
        self.start_held(number, "set_registered_model_alias").kill()

    def start(self, number: int, *, hold: str = "", die_after: int | None = None) -> Promoter:
        """Start a promoter as a separate process."""
        promoter = Promoter(self.paths.root, self.name, number, hold=hold, die_after=die_after)
        self._promoters.append(promoter)
        return promoter

    def kill_all(self) -> None:
        for promoter in self._promoters:
            promoter.kill()


@pytest.fixture(scope="session")
def restore_champion(
    embedded_store: EmbeddedStore, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], None]:
    """Return a function that replaces the embedded store by one whose model ``MODEL`` has a champion."""
    saved = tmp_path_factory.mktemp("champion") / "mlflow"
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
        for name, value in settings.embedded(embedded_store.paths).items():
            environment.setenv(name, value)
        embedded_store.clear()
        first = Registry(store.connect(embedded_store.paths), embedded_store.paths, MODEL)
        first.add_champion()
    embedded_store.save(saved)
    return lambda: embedded_store.restore(saved)


@pytest.fixture(scope="session")
def promoters() -> Iterator[None]:
    """Promoters can be started. The first one starts the server of their processes, which this stops."""
    yield
    stop_server()


@pytest.fixture
def registry(
    any_client: MlflowClient,
    any_paths: Paths,
    model_name: str,
    restore_champion: Callable[[], None],
    promoters: None,
) -> Iterator[Registry]:
    if any_client.tracking_uri.startswith("sqlite:"):
        registry = Registry(any_client, any_paths, MODEL, restore_champion)
    else:
        registry = Registry(any_client, any_paths, model_name)
    yield registry
    registry.kill_all()


@pytest.fixture
def sqlite(
    client: MlflowClient, paths: Paths, restore_champion: Callable[[], None], promoters: None
) -> Iterator[Registry]:
    """SQLite only, for behaviour that does not depend on the store."""
    registry = Registry(client, paths, MODEL, restore_champion)
    yield registry
    registry.kill_all()


def test_first_version_must_keep_only_the_limits(registry: Registry) -> None:
    registry.add()
    done = registry.promote()
    assert done.moved
    assert done.verdict
    assert done.verdict.comparison is None
    assert registry.aliases() == {"champion": 1}
    assert registry.history() == [(None, 1, "promote")]


def test_first_version_below_a_floor_does_not_become_champion(sqlite: Registry) -> None:
    sqlite.add(wrong=range(101))
    done = sqlite.promote()
    assert not done.moved
    assert done.verdict
    assert done.verdict.decision == "reject"
    assert "floor of accuracy" in done.verdict.why
    assert sqlite.aliases() == {"challenger": 1}
    assert sqlite.history() == []


def test_better_version_replaces_the_champion_and_the_history_gives_the_reason(registry: Registry) -> None:
    registry.add_champion()
    registry.add(wrong=GOOD)
    assert registry.promote().moved
    assert registry.aliases() == {"champion": 2, "previous": 1}
    assert registry.history() == [(None, 1, "promote"), (1, 2, "promote")]
    latest = registry.changes()[0].entry
    assert latest.reason == "it is better than the champion"
    assert latest.figures["gained"] == 30
    assert latest.figures["lost"] == 0
    assert latest.figures["accuracy"] == 0.99
    assert "@" in latest.by
    line = registry.client.get_model_version(f"{registry.name}.history", "2")
    assert "champion: version 1 → version 2 (promote" in line.description
    assert line.tags["what"] == "champion 1 → 2"


@pytest.mark.parametrize(("tie", "champion"), [("keep", 1), ("promote", 2)])
def test_parameter_decides_a_tie(sqlite: Registry, tie: str, champion: int) -> None:
    sqlite.add_champion()
    sqlite.add(wrong=SAME)
    done = sqlite.promote(tie=tie)
    assert done.verdict
    assert "a tie" in done.verdict.why
    assert done.verdict.decision == tie
    assert sqlite.aliases()["champion"] == champion


def test_worse_version_is_rejected_and_keeps_the_verdict_in_its_tags(registry: Registry) -> None:
    registry.add_champion()
    registry.add(wrong=WORSE)
    done = registry.promote(tie="promote")
    assert not done.moved
    assert done.verdict
    assert done.verdict.decision == "reject"
    assert registry.aliases() == {"champion": 1, "challenger": 2}
    tags = registry.client.get_model_version(registry.name, "2").tags
    assert tags["gate.decision"].startswith("reject against version 1: ")
    assert "0 images gained, 50 lost of 1,000" in tags["gate.comparison"]


def test_overruling_the_gate_requires_a_reason(sqlite: Registry) -> None:
    sqlite.add_champion()
    sqlite.add(wrong=WORSE)
    with pytest.raises(UsageError, match="give a reason"):
        sqlite.promote("2", force=True, reason=" ")
    assert sqlite.promote("2", force=True, reason="the old one has a licence problem").moved
    assert sqlite.history()[-1] == (1, 2, "force")
    assert sqlite.changes()[0].entry.reason == "the old one has a licence problem"


def test_promoting_the_champion_again_changes_nothing(sqlite: Registry) -> None:
    sqlite.add_champion()
    for wanted in (None, "1", "champion", "@champion"):
        assert not sqlite.promote(wanted).moved
    assert sqlite.history() == [(None, 1, "promote")]


def test_another_alias_has_its_own_gate_and_history(registry: Registry) -> None:
    registry.add()
    registry.add(wrong=GOOD)
    assert registry.promote("1").moved
    assert registry.promote("2", alias="staging").moved
    assert registry.aliases() == {"champion": 1, "challenger": 2, "staging": 2}
    assert registry.history() == [(None, 1, "promote"), (None, 2, "promote")]
    with pytest.raises(UsageError, match="Only the pipeline moves the alias previous"):
        registry.promote("2", alias="previous")


def test_error_for_a_missing_version_lists_the_existing_ones(sqlite: Registry) -> None:
    with pytest.raises(UsageError, match="`lenet5 run` makes one"):
        sqlite.promote()
    sqlite.add()
    with pytest.raises(UsageError, match=r"has no version '7'(.|\n)*a version \(1\) or an alias"):
        sqlite.promote("7")


def test_stored_predictions_of_different_test_sets_are_not_compared(sqlite: Registry) -> None:
    sqlite.add_champion()
    sqlite.add(wrong=GOOD, test_data="e" * 64)
    with pytest.raises(DataError, match="There is no dataset"):  # both models would be scored on it
        sqlite.promote()
    assert sqlite.aliases() == {"champion": 1, "challenger": 2}


# rollback


def test_second_rollback_undoes_the_first(registry: Registry) -> None:
    registry.add_champion()
    registry.add(wrong=GOOD)
    registry.promote()
    done = registry.rollback()
    assert (done.version.number, done.withdrawn) == (1, 2)
    assert registry.aliases() == {"champion": 1, "previous": 2}
    assert registry.rollback(reason="it was the camera").version.number == 2
    assert registry.aliases() == {"champion": 2, "previous": 1}
    assert registry.history() == [
        (None, 1, "promote"),
        (1, 2, "promote"),
        (2, 1, "rollback"),
        (1, 2, "rollback"),
    ]


def test_rollback_accepts_any_former_champion_and_no_other_version(sqlite: Registry) -> None:
    for wrong in (range(60), FAIR, GOOD):
        sqlite.add(wrong=wrong)
        sqlite.promote()
    sqlite.add(wrong=WORSE)
    with pytest.raises(UsageError, match=r"version 4(.|\n)*was champion before: 2, 1"):
        sqlite.rollback(to="4")
    assert sqlite.rollback(to="1").version.number == 1
    assert sqlite.history()[-1] == (3, 1, "rollback")


def test_rollback_requires_a_reason_and_a_former_champion(sqlite: Registry) -> None:
    sqlite.add()
    with pytest.raises(UsageError, match="There is no champion"):
        sqlite.rollback()
    sqlite.promote()
    with pytest.raises(UsageError, match="no version to go back to"):
        sqlite.rollback()
    with pytest.raises(UsageError, match="needs a reason"):
        sqlite.rollback(reason="")


def test_withdrawn_version_is_promoted_again_only_with_force(registry: Registry) -> None:
    registry.add_champion()
    registry.add(wrong=GOOD)
    registry.promote()
    registry.rollback()
    again = registry.promote("2")
    assert not again.moved
    assert again.verdict
    assert again.verdict.decision == "keep"
    assert "it was rolled back on" in again.verdict.why
    assert "sevens as ones" in again.verdict.why
    assert registry.force(2).moved
    registry.add(wrong=range(2))
    registry.promote()
    assert registry.aliases() == {"champion": 3, "previous": 2}


# files that are not as they were registered


def damage(registry: Registry, name: str, how: str, which: int) -> None:
    """Change or delete the file ``name`` of the version ``which``."""
    run_id = model_versions.find(registry.client, registry.name, str(which)).run_id
    files = [p for p in registry.paths.root.rglob(name) if run_id in p.read_text() or name != "model.keras"]
    for file in files:
        file.write_text("something else") if how == "changed" else file.unlink()
    assert files


@pytest.mark.parametrize("how", ["changed", "gone"])
def test_damaged_model_is_not_promoted_not_restored_and_not_loaded(
    sqlite: Registry, tmp_path: Path, how: str
) -> None:
    for wrong in (range(60), FAIR, GOOD):
        sqlite.add(wrong=wrong)
    sqlite.promote("1")
    sqlite.promote("2")
    damage(sqlite, "model.keras", how, which=3)
    for force in (False, True):
        with pytest.raises(DataError, match="model file of .* version 3 is not the one that was registered"):
            sqlite.promote("3", force=force, reason="a test")
    with pytest.raises(DataError, match="is not the one that was registered"):
        model_versions.download(
            sqlite.client, model_versions.find(sqlite.client, sqlite.name, "3"), tmp_path / "here"
        )
    damage(sqlite, "model.keras", how, which=1)
    with pytest.raises(DataError, match="version 1 is not the one that was registered"):
        sqlite.rollback()
    assert sqlite.aliases() == {"champion": 2, "previous": 1, "challenger": 3}
    assert sqlite.history() == [(None, 1, "promote"), (1, 2, "promote")]


def test_file_added_to_the_model_folder_is_detected(sqlite: Registry) -> None:
    sqlite.add()
    [described] = (LocalState(sqlite.paths.root).mlflow).rglob("MLmodel")
    (described.parent / "custom_objects.cloudpickle").write_text("an attack")
    with pytest.raises(DataError, match=r"model folder(.|\n)*custom_objects.cloudpickle"):
        sqlite.promote()
    assert sqlite.aliases() == {"challenger": 1}


def test_changed_predictions_are_not_used(sqlite: Registry) -> None:
    sqlite.add(wrong=WORSE)
    [stored] = (LocalState(sqlite.paths.root).mlflow).rglob("predictions.parquet")
    stored.write_bytes(stored.read_bytes().replace(b"PAR1", b"PAR2"))
    with pytest.raises(DataError, match="There is no dataset"):  # the model would be scored instead
        sqlite.promote()
    assert sqlite.aliases() == {"challenger": 1}


def test_version_registered_by_another_client_is_not_promoted(sqlite: Registry) -> None:
    sqlite.client.create_registered_model(sqlite.name)
    sqlite.client.create_model_version(sqlite.name, str(sqlite.paths.root / "somewhere"))
    with pytest.raises(DataError):
        sqlite.promote("1", force=True, reason="a test")
    assert sqlite.aliases() == {}


# out-of-band moves


def test_out_of_band_move_is_detected_and_logged_by_the_next_promotion(registry: Registry) -> None:
    registry.add_champion()
    registry.add(wrong=SAME)
    assert registry.drifted() == {}
    registry.client.set_registered_model_alias(registry.name, "champion", "2")
    assert (
        "moved outside the gate: to version 2; the history says version 1" in registry.drifted()["champion"]
    )
    assert registry.history() == [(None, 1, "promote")]
    registry.add(wrong=GOOD)
    registry.promote()
    assert registry.history() == [(None, 1, "promote"), (1, 2, "out_of_band"), (2, 3, "promote")]
    assert registry.drifted() == {}


def test_alias_that_was_removed_or_set_before_the_first_entry_is_detected(registry: Registry) -> None:
    registry.add()
    registry.client.set_registered_model_alias(registry.name, "champion", "1")
    assert "to version 1; the history says none" in registry.drifted()["champion"]
    registry.add(wrong=GOOD)
    registry.promote()
    registry.client.delete_model_version(registry.name, "2")  # takes its alias with it
    assert "to none; the history says version 2" in registry.drifted()["champion"]
    registry.promote("1")
    assert registry.history() == [
        (None, 1, "out_of_band"),
        (1, 2, "promote"),
        (2, None, "out_of_band"),
        (None, 1, "promote"),
    ]


# simultaneous promoters, and promoters that die


@long_on_server
def test_of_simultaneous_promoters_one_succeeds_and_the_others_are_refused(registry: Registry) -> None:
    registry.add_champion()
    rivals = [registry.add(wrong=GOOD) for _ in range(3)]
    promoters = [registry.start_held(rival, "create_model_version") for rival in rivals]
    for promoter in promoters:  # each one has passed the gate and is about to append its change
        promoter.go_on()
    ends = {rival: promoter.wait() for rival, promoter in zip(rivals, promoters, strict=True)}
    won = [rival for rival, (exit_code, _) in ends.items() if exit_code == 0]
    assert len(won) == 1, ends
    assert sorted(exit_code for exit_code, _ in ends.values()) == [0, Refused.exit_code, Refused.exit_code]
    for rival in set(rivals) - set(won):
        _, message = ends[rival]
        assert "another promoter was faster" in message
        assert f"version {won[0]} by " in message
    assert registry.history() == [(None, 1, "promote"), (1, won[0], "promote")]
    assert registry.aliases()["champion"] == won[0]
    assert registry.drifted() == {}


@long_on_server
def test_promoter_killed_between_two_writes_leaves_one_champion_and_a_correct_history(
    registry: Registry,
) -> None:
    left = set()
    for writes in range(30):
        each = registry.another(writes)
        each.add_champion()
        each.add(wrong=GOOD)
        exit_code, _ = each.start(2, die_after=writes).wait()
        champion = each.aliases()["champion"]
        changes = each.history()
        assert changes[-1][1] == champion
        assert changes in ([(None, 1, "promote")], [(None, 1, "promote"), (1, 2, "promote")])
        if exit_code == 0:
            break
        assert exit_code == -signal.SIGKILL
        left.add((champion, len(PromotionLog(each.client, each.name, author="a test").entries())))
        # the next promoter completes the pending change, then makes its own
        each.add(wrong=range(1))
        each.promote("3")
        champions = [to for _, to, _ in each.history()]
        assert champions in ([1, 3], [1, 2, 3])
        assert each.aliases() == {"champion": 3, "previous": champions[-2]}
        assert each.drifted() == {}
    else:
        raise AssertionError("no promoter reached its end")
    # killed before the append, between the append and the alias, and after the alias
    assert left == {(1, 1), (1, 2), (2, 2)}


def test_pending_change_is_reported_until_the_next_command_completes_it(sqlite: Registry) -> None:
    sqlite.add_champion()
    sqlite.add(wrong=GOOD)
    sqlite.leave_pending(2)
    assert sqlite.aliases() == {"champion": 1, "challenger": 2}
    assert sqlite.drifted() == {
        "champion": "the change to version 2 is pending; the next promotion or rollback completes it first"
    }
    [pending, first] = sqlite.changes()
    assert (pending.entry.to, pending.happened) == (2, False)
    assert first.happened
    assert sqlite.rollback().withdrawn == 2
    assert sqlite.history() == [(None, 1, "promote"), (1, 2, "promote"), (2, 1, "rollback")]


def test_pending_change_to_a_damaged_version_is_aborted(sqlite: Registry) -> None:
    sqlite.add_champion()
    sqlite.add(wrong=GOOD)
    sqlite.leave_pending(2)
    damage(sqlite, "model.keras", "gone", which=2)
    sqlite.add(wrong=GOOD)
    assert sqlite.promote("3").moved
    assert sqlite.history() == [(None, 1, "promote"), (1, 1, "aborted"), (1, 3, "promote")]


@long_on_server
def test_slow_promoter_does_not_undo_later_changes(registry: Registry) -> None:
    registry.add_champion()
    registry.add(wrong=GOOD)
    slow = registry.start_held(2, "set_registered_model_alias")
    # it has appended its change and not moved the alias
    registry.add(wrong=range(1))
    registry.promote("3")  # completes the pending change, then makes its own
    slow.go_on()
    exit_code, message = slow.wait()
    assert exit_code == 0, message
    assert registry.aliases()["champion"] == 3
    assert registry.history() == [(None, 1, "promote"), (1, 2, "promote"), (2, 3, "promote")]
    assert registry.drifted() == {}


@pytest.mark.parametrize("first_read", ["entries", "versions"])
def test_change_between_the_two_reads_is_not_missed_and_not_logged_as_out_of_band(
    sqlite: Registry, monkeypatch: pytest.MonkeyPatch, first_read: str
) -> None:
    sqlite.add_champion()
    sqlite.add(wrong=range(30))
    sqlite.add(wrong=GOOD)
    owner = PromotionLog if first_read == "entries" else model_versions
    real = getattr(owner, first_read)

    def read_before_a_change(*arguments: Any) -> Any:
        monkeypatch.setattr(owner, first_read, real)
        result = real(*arguments)
        sqlite.force(2)
        return result

    monkeypatch.setattr(owner, first_read, read_before_a_change)
    if first_read == "entries":
        done = sqlite.force(3)
        assert done.verdict
        assert done.verdict.comparison
        assert done.verdict.comparison.gained == 20  # against version 2, which misclassifies 30 images
        assert sqlite.history() == [(None, 1, "promote"), (1, 2, "promote"), (2, 3, "promote")]
    else:
        with pytest.raises(Refused, match="another promoter was faster"):
            sqlite.force(3)
        assert sqlite.history() == [(None, 1, "promote"), (1, 2, "promote")]
    assert sqlite.drifted() == {}


def test_repeated_request_gives_one_entry(sqlite: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    sqlite.add()
    real = MlflowClient.create_model_version

    def twice(*arguments: Any, **named: Any) -> Any:  # as after a 502 whose request had arrived
        real(*arguments, **named)
        return real(*arguments, **named)

    with monkeypatch.context() as doubled:
        doubled.setattr(MlflowClient, "create_model_version", twice)
        assert sqlite.promote().moved
    assert sqlite.history() == [(None, 1, "promote")]
    assert sqlite.drifted() == {}


def test_failed_connection_does_not_abort_a_pending_change(
    sqlite: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite.add_champion()
    sqlite.add(wrong=GOOD)
    sqlite.leave_pending(2)

    def refuse(*_: Any, **__: Any) -> Any:
        raise requests.ConnectionError("connection refused")

    with monkeypatch.context() as down:
        down.setattr(mlflow.artifacts, "download_artifacts", refuse)
        with pytest.raises(Unavailable):
            sqlite.rollback()
    assert sqlite.drifted()["champion"].startswith("the change to version 2 is pending")  # not aborted
    assert sqlite.promote("2").holder
    assert sqlite.history() == [(None, 1, "promote"), (1, 2, "promote")]


@pytest.mark.parametrize("alias", ["@previous", "challenger", "latest", "v2", "1", "", "a b"])
def test_invalid_alias_is_refused_before_anything_is_written(sqlite: Registry, alias: str) -> None:
    sqlite.add()
    with pytest.raises(UsageError):
        sqlite.promote("1", alias=alias)
    with pytest.raises(UsageError):
        promotion.rollback(sqlite.paths, params(sqlite.name), reason="a test", alias=alias)
    assert sqlite.history() == []
    assert sqlite.aliases() == {"challenger": 1}


def test_number_selects_a_version_even_if_an_alias_has_that_name(sqlite: Registry) -> None:
    sqlite.add()
    sqlite.add(wrong=GOOD)
    sqlite.client.set_registered_model_alias(sqlite.name, "1", "2")
    assert sqlite.promote("1").version.number == 1
    assert model_versions.find(sqlite.client, sqlite.name, "@1").number == 2


def test_deleted_entry_leaves_a_gap_and_changed_entry_is_an_error(sqlite: Registry) -> None:
    sqlite.add_champion()
    sqlite.add(wrong=GOOD)
    sqlite.promote()
    sqlite.client.delete_model_version(f"{sqlite.name}.history", "2")
    assert sqlite.history() == [(None, 1, "promote")]
    assert "moved outside the gate: to version 2; the history says version 1" in sqlite.drifted()["champion"]
    sqlite.rollback()
    assert sqlite.history()[1:] == [(1, 2, "out_of_band"), (2, 1, "rollback")]
    sqlite.client.set_model_version_tag(f"{sqlite.name}.history", "1", "move", "{}")
    with pytest.raises(DataError, match="version 1 of .*history is not a log entry"):
        sqlite.history()


@pytest.mark.parametrize(("stored", "read"), [("outside", "out_of_band"), ("abandon", "aborted")])
def test_entries_of_earlier_releases_can_be_read(sqlite: Registry, stored: str, read: str) -> None:
    sqlite.add_champion()
    entry = sqlite.client.get_model_version(f"{sqlite.name}.history", "1")
    earlier = entry.tags["move"].replace('"kind":"promote"', f'"kind":"{stored}"')
    assert earlier != entry.tags["move"]
    sqlite.client.set_model_version_tag(f"{sqlite.name}.history", "1", "move", earlier)
    assert sqlite.history() == [(None, 1, read)]


def test_history_as_json_keeps_its_keys(sqlite: Registry) -> None:
    sqlite.add_champion()
    [change] = sqlite.changes()
    keys = {
        "id",
        "alias",
        "after",
        "before",
        "to",
        "kind",
        "by",
        "reason",
        "figures",
        "number",
        "time",
        "settled",
    }
    assert change.entry.model_dump(mode="json").keys() == keys
    assert change.entry.model_dump(mode="json")["settled"] is True


def test_model_without_versions_is_an_error(sqlite: Registry) -> None:
    sqlite.add_champion()
    sqlite.client.delete_model_version(sqlite.name, "1")
    with pytest.raises(UsageError, match="`lenet5 run` makes one"):
        sqlite.promote()


def test_version_without_digests_is_not_promoted(sqlite: Registry) -> None:
    version = sqlite.add()
    sqlite.client.delete_model_version_tag(sqlite.name, str(version), tags.MODEL_FOLDER)
    with pytest.raises(DataError, match="cannot be trusted"):
        sqlite.promote()


def test_aborted_change_does_not_cancel_an_earlier_withdrawal(sqlite: Registry) -> None:
    sqlite.add_champion()
    sqlite.add(wrong=GOOD)
    sqlite.promote()
    sqlite.rollback()
    sqlite.leave_pending(2)
    run_id = model_versions.find(sqlite.client, sqlite.name, "2").run_id
    [model] = (p for p in sqlite.paths.root.rglob("model.keras") if p.read_text() == run_id)
    stored = model.parents[1] / "MLmodel"
    kept = stored.read_bytes()
    stored.write_text("something else")
    assert not sqlite.promote("2").moved
    stored.write_bytes(kept)
    assert sqlite.history()[-1] == (1, 1, "aborted")
    assert sqlite.aliases() == {"champion": 1, "previous": 2}
    again = sqlite.promote("2")
    assert again.verdict
    assert "it was rolled back on" in again.verdict.why


def recorded(registry: Registry, known: Params | None = None, **more: Any) -> promotion.Promotion:
    """Ask about version 2 with a client that cannot read what a verdict is made of."""
    client = store.connect_read_only(registry.paths)
    known = known or params(registry.name, tie="keep")
    return promotion.promote(registry.paths, known, "2", client=client, recorded=True, **more)


@pytest.mark.parametrize(("wrong", "decision"), [(SAME, "keep"), (WORSE, "reject")])
def test_a_verdict_is_recorded_with_all_its_words(sqlite: Registry, wrong: range, decision: str) -> None:
    sqlite.add_champion()
    sqlite.add(wrong=wrong)
    judged = sqlite.promote()
    again = recorded(sqlite)
    assert judged.verdict
    assert again.verdict
    assert again.verdict.decision == judged.verdict.decision == decision
    assert again.verdict.why == judged.verdict.why
    assert str(again.verdict) == str(judged.verdict)
    assert "against the champion: " in str(again.verdict)
    assert (again.version.number, again.moved) == (2, False)
    assert again.holder
    assert again.holder.number == 1
    assert str(promotion.refusal(again)) == str(promotion.refusal(judged))


def test_a_recorded_verdict_stays_while_nothing_that_decides_it_changes(sqlite: Registry) -> None:
    sqlite.add_champion()
    sqlite.add(wrong=SAME)
    sqlite.promote()
    sqlite.add(wrong=GOOD)
    model_versions.set_alias(sqlite.client, sqlite.name, "staging", 3)
    for number in ("1", "2"):
        sqlite.client.set_model_version_tag(sqlite.name, number, tags.DECISION, "edited")
    sqlite.client.update_model_version(sqlite.name, "2", "another description")
    assert recorded(sqlite).verdict


def tag_of(version: str, name: str, of: str = "") -> Callable[[Registry], None]:
    """Return a change of a tag of a version; ``of`` is appended to the name of the model."""
    return lambda registry: registry.client.set_model_version_tag(registry.name + of, version, name, "{}")


def another_champion(registry: Registry) -> None:
    registry.force(registry.add(wrong=GOOD))


def withdraw(registry: Registry) -> None:
    registry.force(2)
    registry.rollback()


def damage_the_record(registry: Registry) -> None:
    registry.client.set_model_version_tag(registry.name, "2", tags.RECORDED_VERDICT, '{"digest": 1}')


def edit_the_code(registry: Registry) -> None:
    with (registry.paths.root / "package/registry/gate.py").open("a") as code:
        code.write("# another line\n")


@pytest.mark.parametrize(
    "change",
    [
        *(tag_of("2", name) for name in (tags.TEST_DATA, tags.ARTIFACTS, tags.MODEL_FILE)),
        *(tag_of("1", name) for name in (tags.ARTIFACTS, tags.CORRUPTED_IMAGES, tags.MODEL_FOLDER)),
        tag_of("1", tags.TEST_DATA, of=".history"),
        another_champion,
        withdraw,
        damage_the_record,
        edit_the_code,
    ],
)
def test_whatever_decides_the_verdict_lets_the_gate_judge_again(
    sqlite: Registry, change: Callable[[Registry], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite.add_champion()
    package = shutil.copytree(Path(lenet5.__file__).parent, sqlite.paths.root / "package")
    monkeypatch.setattr(lenet5, "__file__", str(package / "__init__.py"))
    sqlite.add(wrong=SAME)
    sqlite.promote()
    assert recorded(sqlite).verdict
    change(sqlite)
    with pytest.raises(NeedsMlflowError):
        recorded(sqlite)


@pytest.mark.parametrize(
    "changed",
    [
        {"register.floors.accuracy": 0.91},
        {"register.ceilings.calibration_error": 0.16},
        {"register.gate.margin": 0.021},
        {"register.gate.tie": "promote"},
        {"evaluate.calibration_bins": 7},
        {"evaluate.robustness.severities": [3]},
    ],
)
def test_other_limits_let_the_gate_judge_again(sqlite: Registry, changed: dict[str, Any]) -> None:
    sqlite.add_champion()
    sqlite.add(wrong=SAME)
    sqlite.promote()
    with pytest.raises(NeedsMlflowError):
        recorded(sqlite, params(sqlite.name, tie="keep").changed(changed))


def test_another_question_is_no_recorded_one(sqlite: Registry) -> None:
    sqlite.add_champion()
    sqlite.add(wrong=WORSE)
    sqlite.promote()
    for question in ({"alias": "staging"}, {"accept_new_data": True, "reason": "a test"}):
        with pytest.raises(NeedsMlflowError):
            recorded(sqlite, **question)


def test_a_verdict_is_not_recorded_when_something_was_missing(sqlite: Registry) -> None:
    sqlite.add_champion()
    predictions = metrics.predictions(LABELS, probabilities(SAME))
    add_model(sqlite.client, sqlite.paths, sqlite.name, predictions, test_data=TEST_DATA)
    judged = sqlite.promote()
    assert judged.verdict
    assert judged.verdict.missing
    with pytest.raises(NeedsMlflowError):
        recorded(sqlite)
