"""Trains one run, or with -m every run of a grid. See configs/config.yaml for what can be set.

python scripts/train.py setting=vgg_cifar10 method=spectral batch=large seed=1
python scripts/train.py -m experiment=demo
"""

import os
import shlex
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from sns.errors import UserError, first_line
from sns.launch import several
from sns.train.run import configure, run
from sns.train.signals import RESUMABLE, Interrupted

failures: list[str] = []


@hydra.main(version_base="1.3", config_path="../configs", config_name="config")
def train(tree: DictConfig) -> None:
    """One run of the grid; a fault of one run never stops the others."""
    overrides = list(HydraConfig.get().overrides.task)
    command = shlex.join(["python", "scripts/train.py", *overrides])
    try:
        config = configure(tree)
        if config.launch.gpus_per_run > 1 and not several.is_one_of_several():
            code = several.start(config.launch.gpus_per_run, [sys.executable, __file__, *overrides])
            failures.extend(["one of its processes failed"] if code else [])
            return
        run(config, command)
    except UserError as error:
        _fail(str(error), overrides)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(RESUMABLE)
    except Exception as error:  # a fault of ours: told in a line, so that the sweep goes on; SNS_DEBUG=1 shows where
        if os.environ.get("SNS_DEBUG"):
            raise
        _fail(f"{type(error).__name__}: {first_line(error)} (SNS_DEBUG=1 shows the trace)", overrides)


def _fail(message: str, overrides: list[str]) -> None:
    failures.append(message)
    print(f"error: {message} [{' '.join(overrides)}]", file=sys.stderr)


if __name__ == "__main__":
    train()
    sys.exit(1 if failures else 0)
