"""No test may find the credentials of whoever runs it, or inherit a mirror."""

import os
from collections.abc import Iterator

import pytest

from sns.track import client


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", "/nonexistent")
    monkeypatch.setattr(client, "_mirror", None)
    monkeypatch.setattr(client, "_told", set())
    yield
    client.leave(0.0)
