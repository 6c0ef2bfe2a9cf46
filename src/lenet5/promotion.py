"""Moving the alias ``champion``."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from lenet5.errors import Refused
from lenet5.params import Register
from lenet5.paths import Paths
from lenet5.register import gate
from lenet5.tracking import registry, store


@dataclass(frozen=True)
class Promotion:
    """What became of a request to promote."""

    version: registry.Version
    """With the aliases it has now."""
    checks: list[gate.Check]
    moved: bool
    """False when it was the champion already."""


def promote(paths: Paths, params: Register, wanted: str | None = None) -> Promotion:
    """Ask the gate, then move ``champion`` to a version and ``previous`` to the one that had it.

    Args:
        paths: the checkout.
        params: the model's name and its floors.
        wanted: a version or an alias; the challenger, or else the champion, when None.

    Raises:
        Refused: the gate says no; nothing has changed.
        UsageError: there is no such version.
        DataError: its model file is not the one that was registered.
        Unavailable: the store does not answer.
    """
    with store.reachable():
        client = store.connect(paths)
        name = params.model_name
        versions = registry.versions(client, name)
        champion = registry.holder(versions, registry.CHAMPION)
        challenged = registry.holder(versions, registry.CHALLENGER)
        wanted = wanted or (registry.CHALLENGER if challenged or champion is None else registry.CHAMPION)
        candidate = registry.find(client, name, wanted)
        if champion and candidate.number == champion.number:
            return Promotion(candidate, [], moved=False)

        checks = gate.judge(params.floors, _figures(candidate), _figures(champion) if champion else None)
        if not all(check.passed for check in checks):
            stays = (
                f"Version {champion.number} stays champion." if champion else "There is still no champion."
            )
            answers = "".join(f"\n  {check}" for check in checks)
            raise Refused(f"Version {candidate.number} of {name} is not promoted. {stays}{answers}")
        with tempfile.TemporaryDirectory() as folder:
            registry.download(client, candidate, Path(folder))
        if champion:  # first, so that a stop between the two moves leaves a champion
            registry.set_alias(client, champion, registry.PREVIOUS)
        registry.set_alias(client, candidate, registry.CHAMPION)
        if registry.CHALLENGER in candidate.aliases:
            registry.drop_alias(client, name, registry.CHALLENGER)
        return Promotion(registry.find(client, name, str(candidate.number)), checks, moved=True)


def _figures(version: registry.Version) -> dict[str, float]:
    return {name: version.figure(f"evaluate.{name}") for name in ("accuracy", "worst_class_recall")}
