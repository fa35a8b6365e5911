"""One seed, many named random streams, so that changing how one is used never shifts another."""

import hashlib

import torch

STREAMS = ("init", "order", "augmentation", "dropout", "power_iteration", "subset", "probe")


def stream_seed(seed: int, name: str) -> int:
    """A 63-bit seed for the stream `name` of run seed `seed`; ValueError for a name that is not in
    STREAMS."""
    if name not in STREAMS:
        raise ValueError(f"unknown random stream {name!r}; known: {', '.join(STREAMS)}")
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device`, seeded for the stream `name` of run seed `seed`."""
    return torch.Generator(device).manual_seed(stream_seed(seed, name))
