"""What a shell offers after Tab: stages, recipes, versions and aliases. Nothing slow is imported for it.

``lenet5 --install-completion`` sets a shell up. A completion never prints an error: without a checkout or
without a store, a shell offers nothing.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet5.core import files
from lenet5.core.paths import Paths

if TYPE_CHECKING:
    from lenet5.registry import fast_lookup

Offer = str | tuple[str, str]
"""A word, or a word with a description, which zsh and fish show."""


def stages(incomplete: str) -> list[Offer]:
    """Return the stages of ``dvc.yaml`` in their order there."""
    return _offered(_stages, incomplete)


def recipes(incomplete: str) -> list[Offer]:
    """Return the recipes with their purposes."""
    return _offered(_recipes, incomplete)


def versions(incomplete: str) -> list[Offer]:
    """Return aliases and numbers of the versions in the embedded store, newest first.

    An alias has an @ only if the user typed one: bash takes a word with @ for the name of a machine.
    """
    return _offered(lambda paths: _versions(paths, "@" if incomplete.startswith("@") else ""), incomplete)


def aliases(incomplete: str) -> list[Offer]:
    """Return the aliases of the embedded store."""
    return _offered(_aliases, incomplete)


def formats(incomplete: str) -> list[Offer]:
    """Return the formats of data sets."""
    from typing import get_args

    from lenet5.stages.ingest.params import Format

    return [name for name in get_args(Format) if name.startswith(incomplete)]


def _offered(source: Callable[[Paths], Iterable[tuple[str, str]]], incomplete: str) -> list[Offer]:
    """Return those words that begin as the user typed, or nothing if they cannot be read."""
    with suppress(Exception):  # the line that a user types is no place for an error
        return [(word, about) for word, about in source(Paths.find()) if word.startswith(incomplete)]
    return []


def _stages(paths: Paths) -> Iterator[tuple[str, str]]:
    for name, stage in _yaml(paths.graph)["stages"].items():
        yield name, str(stage.get("desc", ""))


def _recipes(paths: Paths) -> Iterator[tuple[str, str]]:
    for file in sorted(paths.recipes.glob("*.yaml")):
        yield file.stem, str(_yaml(file).get("about", ""))


def _versions(paths: Paths, at: str) -> Iterator[tuple[str, str]]:
    labels = _labels(paths)
    for alias, number in labels.aliases.items():
        yield f"{at}{alias}", f"version {number}"
    for number in labels.numbers:
        yield str(number), f"version {number}"


def _aliases(paths: Paths) -> Iterator[tuple[str, str]]:
    for alias, number in _labels(paths).aliases.items():
        yield alias, f"version {number}"


def _labels(paths: Paths) -> "fast_lookup.Labels":
    from lenet5.registry import fast_lookup
    from lenet5.system import settings

    name = str(_yaml(paths.params)["register"]["model_name"])
    return fast_lookup.labels(settings.load(paths), name)


def _yaml(path: Path) -> Any:
    return files.read_yaml(path, fix="")
