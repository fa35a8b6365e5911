"""These tests disturb a Slurm of their own: `make test-slurm` starts one and says so by
SNS_TEST_SLURM=1."""

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("SNS_TEST_SLURM") != "1":
        for item in items:
            if "slurm" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs the Slurm that `make test-slurm` starts"))
