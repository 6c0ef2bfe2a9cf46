"""The summary of a flow run, in Markdown."""

from lenet5.registry.promotion import Promotion


def line(promotion: Promotion) -> str:
    """Return the outcome in one line, for lists of flow runs."""
    return f"version {promotion.version.number}: {_decision(promotion)}"


def _decision(promotion: Promotion) -> str:
    if not promotion.verdict:
        return "champion already"
    return "promoted to champion" if promotion.moved else "kept back, the champion stays"


def markdown(promotion: Promotion, run_link: str) -> str:
    """Return version, decision and metrics of one flow run, as Markdown."""
    version = promotion.version
    figures = "\n".join(
        f"| {name.removeprefix('evaluate.')} | {float(value):.4f} |"
        for name, value in sorted(version.tags.items())
        if name.startswith("evaluate.")
    )
    answers = "\n".join(f"- {line}" for line in str(promotion.verdict or "not asked again").splitlines())
    return f"""\
## {version.name} version {version.number}: {_decision(promotion)}

| Metric | Value |
|---|---|
{figures}

### The gate
{answers}

MLflow run: {run_link}
Data `{version.tags["lenet5.raw_data"][:12]}`, weights `{version.tags["lenet5.weights"][:12]}`
"""
