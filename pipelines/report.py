"""What a flow run says at its end, in Markdown."""

from lenet5.promotion import Promotion


def markdown(promotion: Promotion, run_link: str) -> str:
    """Version, decision and figures of one flow run."""
    version = promotion.version
    decision = "promoted to champion" if promotion.moved else "champion already"
    figures = "\n".join(
        f"| {name.removeprefix('evaluate.')} | {float(value):.4f} |"
        for name, value in sorted(version.tags.items())
        if name.startswith("evaluate.")
    )
    checks = "\n".join(f"- {check}" for check in promotion.checks) or "- not asked again"
    return f"""\
## {version.name} version {version.number}: {decision}

| Metric | Value |
|---|---|
{figures}

### The gate
{checks}

MLflow run: {run_link}
Data `{version.tags["lenet5.raw_data"][:12]}`, weights `{version.tags["lenet5.weights"][:12]}`
"""
