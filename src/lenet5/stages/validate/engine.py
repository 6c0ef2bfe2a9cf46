"""Great Expectations at work: tables and checks in, outcomes and Data Docs out.

Everything lives in memory but the Data Docs, and nothing is sent anywhere.
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

# One run time for ever: pages are named after it, and equal data has to give equal pages.
_RUN = RunIdentifier("validation", datetime(1970, 1, 1, tzinfo=UTC))


def evaluate(
    tables: Mapping[str, pd.DataFrame], checks: Mapping[str, Sequence[NamedExpectation]], site: Path
) -> list[CheckResult]:
    """Run every check on the table of its name, and write Data Docs into the folder ``site``.

    The outcomes come in the order of the checks; the pages hold no clock and no random number.
    """
    context = _context(site)
    source = context.data_sources.add_pandas("data_raw")
    outcomes = []
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
        # results come in an order of their own
        found = {
            result["expectation_config"]["meta"]["check"]: result
            for result in results.to_json_dict()["results"]
        }
        outcomes += [read(check, name, found[check.name]) for check in checks[name]]
    context.build_data_docs()
    data_docs.settle(site)
    return outcomes


def _context(site: Path) -> Any:
    # spelled out, because get_context(mode="ephemeral") alone adds a second site in a temporary folder
    return gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            data_docs_sites={
                "validation": {
                    "class_name": "SiteBuilder",
                    "show_how_to_buttons": False,
                    "store_backend": {
                        "class_name": "TupleFilesystemStoreBackend",
                        "base_directory": str(site),
                    },
                    "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
                }
            },
            progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
            analytics_enabled=False,
        ),
    )
