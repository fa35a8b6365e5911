"""One seed, many named random streams: a change in the use of one never shifts another."""

import hashlib

import torch

STREAMS = ("init", "order", "augmentation", "dropout", "power_iteration", "subset", "probe", "latent", "noise")


def stream_seed(seed: int, name: str) -> int:
    """A 63-bit seed for the stream `name` of a run's `seed`. ValueError unless it is in STREAMS."""
    if name not in STREAMS:
        raise ValueError(f"unknown random stream {name!r}; choose one of {', '.join(STREAMS)}")
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device`, seeded for the stream `name` of a run's `seed`."""
    return torch.Generator(device).manual_seed(stream_seed(seed, name))
