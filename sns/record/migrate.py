"""Converts records of older schema versions to the present one, in memory. Files never change."""

from typing import Any

from sns.record.schema import AFTER, BEFORE, CLASSIFICATION, MEASURED, SCHEMA_VERSION

READABLE = (1, SCHEMA_VERSION)


def migrated(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a result.json of any schema in READABLE, converted to the present schema.

    Schema 1 had one task and one optimizer and did not name them. It had the fields of `measured`
    at the top level. A missing field stays missing.
    """
    if content.get("schema") != 1:
        return content
    measured = {name: content[name] for name in MEASURED if name in content}
    rest = {name: value for name, value in content.items() if name not in measured}
    return rest | {
        "schema": SCHEMA_VERSION,
        "task": "classification",
        "optimizer": "nesterov",
        "columns": [column.name for column in (*BEFORE, *CLASSIFICATION, *AFTER)],
        "score": "test_accuracy",
        "high_is_good": True,
        "measured": measured,
    }
