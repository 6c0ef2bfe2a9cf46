"""Two versions in a few words: what changed, and which one is better."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lenet5.registry import model_versions
from lenet5.registry.model_versions import Version
from lenet5.stages.register.params import Gate
from lenet5.system.experiments import changed_values
from lenet5.tracking import run_name, runs, tags
from lenet5.tracking.embedded_client import Client

if TYPE_CHECKING:
    import pandas as pd

    from lenet5.registry.paired_tests import Comparison


@dataclass(frozen=True)
class Answer:
    """Which of two versions is better on the test images."""

    sentence: str
    better: int | None = None
    """Number of the version that is shown to be better; None if neither is."""
    comparison: "Comparison | None" = None
    """The right version as a candidate against the left one; None without the same test images."""


def parameters(version: Version) -> dict[str, str] | None:
    """Return the parameters of a version by dotted name; None if an earlier release registered it."""
    text = version.tags.get(tags.PARAMS)
    return None if text is None else dict(json.loads(text))


def changes(
    version: Version, base: Version, of_version: Mapping[str, str], of_base: Mapping[str, str]
) -> list[str]:
    """Return what a version was made from that another one was not, in short words.

    Args:
        version: The version.
        base: The version to compare it with, such as the champion.
        of_version: Parameters of ``version`` by dotted name.
        of_base: Parameters of ``base``.

    Returns:
        Such as ``["kernel_size 5", "data", "code of train", "packages"]``; empty if nothing changed. For
        versions of earlier releases, which have no digests of the code, ``commit`` stands for it.
    """

    # the pins of the data change with the data, and the limits of the gate change no model
    def counted(parameters: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
        # what an earlier release could not set is what it was there: the default
        defaults = {k: str(v) for k, v in run_name.defaults().items() if k in others and k not in parameters}
        return {
            k: v for k, v in {**parameters, **defaults}.items() if not k.startswith((tags.PINS, "register."))
        }

    words = changed_values(counted(of_version, of_base), counted(of_base, of_version))
    own, other = version.tags, base.tags
    if any(own.get(name) != other.get(name) for name in (tags.RAW_DATA, tags.TEST_DATA)):
        words.append("data")
    if tags.CODE in own and tags.CODE in other:
        mine, theirs = json.loads(own[tags.CODE]), json.loads(other[tags.CODE])
        stages = [stage for stage in mine | theirs if mine.get(stage) != theirs.get(stage)]
        if stages:
            words.append("code" if len(stages) == len(mine | theirs) else f"code of {', '.join(stages)}")
    elif any((own.get(name) or "") != (other.get(name) or "") for name in (tags.COMMIT, tags.PATCH)):
        words.append("commit")
    packages = f"{tags.ENVIRONMENT}requirements"
    if own.get(packages) != other.get(packages):
        words.append("packages")
    return words


def since_champion(
    client: Client, versions: Sequence[Version], selected: Sequence[Version]
) -> dict[int, list[str]]:
    """Return the :func:`changes` of each selected version against the champion, by number.

    Versions of earlier releases have their parameters in their run alone. They cost a request each.

    Args:
        client: The registry.
        versions: All versions of the model.
        selected: Those to compare.
    """
    champion = model_versions.holder(versions, model_versions.CHAMPION)
    if champion is None:
        return {}

    def of(version: Version) -> Mapping[str, str]:
        known = parameters(version)
        return runs.params(client, version.run_id) if known is None else known

    of_champion = of(champion)
    return {
        version.number: changes(version, champion, of(version), of_champion)
        for version in selected
        if version.number != champion.number
    }


def answer(
    gate: Gate, left: Version, right: Version, predictions: "tuple[pd.DataFrame, pd.DataFrame] | None"
) -> Answer:
    """Say which of two versions is better, by how much, and whether chance explains it.

    Args:
        gate: Confidence, resamples and seed of the test.
        left: A version.
        right: The version to compare it with.
        predictions: Of both on the same test images in the same order, with the columns ``label`` and
            ``predicted``; None if there are no such predictions.
    """
    if predictions is None:
        accuracies = [version.tags.get(f"{tags.METRICS}accuracy") for version in (left, right)]
        known = " and ".join("unknown" if each is None else f"{float(each):.4f}" for each in accuracies)
        return Answer(
            f"Versions {left.number} and {right.number} have no predictions on the same test images, so "
            f"their accuracies, {known}, do not show which one is better. "
            f"`lenet5 compare {left.number} {right.number}` scores both models on the same images."
        )
    from lenet5.registry import paired_tests  # pandas takes half a second, and a list of versions needs none

    old, new = ((each["label"] == each["predicted"]).to_numpy() for each in predictions)
    found = paired_tests.compare(
        new, old, confidence=gate.confidence, resamples=gate.resamples, seed=gate.seed
    )
    accuracy = {left.number: old.mean(), right.number: new.mean()}
    interval = f"{found.confidence:.0%} interval {found.low:+.4f} to {found.high:+.4f}"
    test = f"on the same {found.images:,} test images ({interval}, McNemar p = {found.p_value:.3g})"
    is_significant = found.p_value < 1 - found.confidence and found.difference != 0
    if not is_significant:
        return Answer(
            f"Neither version is shown to be better: version {right.number} has accuracy "
            f"{accuracy[right.number]:.4f}, version {left.number} {accuracy[left.number]:.4f}, "
            f"{found.difference:+.4f} {test}.",
            None,
            found,
        )
    better, worse = (right, left) if found.difference > 0 else (left, right)
    return Answer(
        f"Version {better.number} is better: accuracy {accuracy[better.number]:.4f}, version {worse.number} "
        f"has {accuracy[worse.number]:.4f}; version {right.number} against version {left.number}: "
        f"{found.difference:+.4f} {test}.",
        better.number,
        found,
    )
