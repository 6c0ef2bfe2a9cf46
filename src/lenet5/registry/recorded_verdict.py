"""The gate's answer to a version that it did not promote, kept in a tag of the version.

The answer is kept together with a digest of everything that decides it. While the digest is the same, so is
the answer. `lenet5 run` with nothing to do then reads it, and does not compare the two versions again.
"""

import hashlib
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lenet5
from lenet5.core import files
from lenet5.registry import model_versions
from lenet5.registry.model_versions import Version
from lenet5.registry.promotion_log import AliasState
from lenet5.stages.params import Params
from lenet5.tracking import tags
from lenet5.tracking.embedded_client import Client

if TYPE_CHECKING:
    from lenet5.registry.gate import Verdict

_OF_THE_GATE = "gate."
"""Prefix of the tags that the gate itself writes."""
_CODE = ("core", "images", "model", "registry")
"""Packages whose code compares two versions."""
_PACKAGES = ("numpy", "onnxruntime", "pandas", "scipy")
"""They compute the comparisons."""
_LONGEST = 50_000
"""Characters of the tag; MLflow accepts 100,000."""


def digest(params: Params, state: AliasState, candidate: Version, *, accept_new_data: bool = False) -> str:
    """Return the SHA-256 of everything that decides the verdict on a candidate.

    The tags of a version name every file that is compared (predictions, answers on corrupted images, slices,
    model) by its SHA-256, and the test images as well.

    Args:
        params: Limits, and parameters of the comparisons.
        state: The alias, its holder and its log.
        candidate: The version that wants the alias.
        accept_new_data: Whether it is judged on its own test images alone.
    """
    judged_on = state.data_of(state.holder_number)
    withdrawal = state.withdrawal_of(candidate.number)
    decisive: dict[str, Any] = {
        "alias": state.alias,
        "candidate": _content(candidate),
        "holder": _content(state.holder) if state.holder else None,
        "judged_on": asdict(judged_on) if judged_on else None,
        "withdrawal": withdrawal.model_dump(mode="json") if withdrawal else None,
        "accept_new_data": accept_new_data,
        "register": params.register_.model_dump(mode="json"),
        "evaluate": params.evaluate.model_dump(mode="json"),
        "code": _code(),
        "packages": {name: version(name) for name in _PACKAGES},
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def find(candidate: Version, decisive: str) -> "Verdict | None":
    """Return the recorded verdict on a candidate; None when there is none with this digest."""
    try:
        recorded = json.loads(candidate.tags.get(tags.RECORDED_VERDICT, ""))
        if recorded["digest"] != decisive:
            return None
        decision, why, text = (str(recorded[name]) for name in ("decision", "why", "text"))
    except (ValueError, LookupError, TypeError):
        return None
    if decision not in ("keep", "reject", "other_data"):
        return None
    from lenet5.registry.gate import Verdict

    return Verdict(decision, why, (), recorded=text)  # type: ignore[arg-type]


def write(client: Client, candidate: Version, decisive: str, verdict: "Verdict") -> None:
    """Record a verdict that promoted nothing.

    A verdict for which something was missing is not recorded, because the missing files can come back.
    """
    if verdict.missing or (verdict.change and verdict.change.missing):
        return
    content = {"decision": verdict.decision, "why": verdict.why, "text": str(verdict), "digest": decisive}
    if len(value := json.dumps(content)) <= _LONGEST:
        model_versions.tag(client, candidate, tags.RECORDED_VERDICT, value)


def _content(version: Version) -> dict[str, Any]:
    own = {name: value for name, value in version.tags.items() if not name.startswith(_OF_THE_GATE)}
    return {"number": version.number, "run": version.run_id, "tags": own}


def _code() -> dict[str, str]:
    package = Path(lenet5.__file__).parent
    sources = [source for name in _CODE for source in sorted((package / name).rglob("*.py"))]
    return {source.relative_to(package).as_posix(): files.sha256(source) for source in sources}
