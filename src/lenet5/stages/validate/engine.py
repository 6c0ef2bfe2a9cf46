"""Run checks on tables with Great Expectations and write Data Docs.

Only the Data Docs are written to disk, and nothing is sent over the network.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)

from lenet5.stages.validate import data_docs
from lenet5.stages.validate.check_result import KEYS, CheckResult, read
from lenet5.stages.validate.suite import NamedExpectation

# pages are named after the run time, so a constant run time lets equal data give equal pages
_RUN = RunIdentifier("validation", datetime(1970, 1, 1, tzinfo=UTC))


def evaluate(
    tables: Mapping[str, pd.DataFrame],
    checks: Mapping[str, Sequence[NamedExpectation]],
    site: Path | None = None,
) -> list[CheckResult]:
    """Run every check; write Data Docs without times and random ids.

    Args:
        tables: the tables of ``frames`` by name: ``images``, ``classes``.
        checks: the checks by the name of their table.
        site: the folder for the Data Docs; None writes none, which takes half the time.

    Returns:
        The results in the order of the checks.
    """
    context = _context(site)
    source = context.data_sources.add_pandas("data_raw")
    check_results = []
    for name, table in tables.items():
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
        for check in checks[name]:
            check.expectation.meta = {"check": check.name}
            check.expectation.notes = [f"{check.name}: {check.what}. Expected: {check.expected}."]
        suite = gx.ExpectationSuite(name, expectations=[check.expectation for check in checks[name]])
        definition = gx.ValidationDefinition(name=name, data=batch, suite=context.suites.add(suite))
        results = context.validation_definitions.add(definition).run(
            batch_parameters={"dataframe": table},
            result_format={
                "result_format": "COMPLETE",
                "unexpected_index_column_names": KEYS[name],
                "return_unexpected_index_query": False,
            },
            run_id=_RUN,
        )
        # Great Expectations returns the results in another order than the checks
        by_check = {
            result["expectation_config"]["meta"]["check"]: result
            for result in results.to_json_dict()["results"]
        }
        check_results += [read(check, name, by_check[check.name]) for check in checks[name]]
    if site:
        context.build_data_docs()
        data_docs.make_reproducible(site)
    return check_results


def _context(site: Path | None) -> Any:
    # get_context(mode="ephemeral") without a configuration adds a second site in a temporary folder
    return gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            data_docs_sites={"validation": _site(site)} if site else {},
            progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
            analytics_enabled=False,
        ),
    )


def _site(folder: Path) -> dict[str, Any]:
    """Return the configuration of the Data Docs in a folder."""
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": {
            "class_name": data_docs.SortedFolder.__name__,
            "module_name": data_docs.SortedFolder.__module__,
            "base_directory": str(folder),
        },
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }
