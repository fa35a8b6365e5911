"""Tests do not see the user's credentials, nor share a mirror."""

import os
from collections.abc import Iterator

import pytest

from sns.track import client


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", "/nonexistent")
    monkeypatch.setattr(client, "_mirrors", [])
    monkeypatch.setattr(client, "_printed", set())
    yield
    client.close_mirrors(0.0)
