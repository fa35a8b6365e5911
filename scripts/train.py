"""Trains one run, or with -m every run of a sweep. See configs/config.yaml for what can be set.

python scripts/train.py setting=vgg_cifar10 method=spectral batch=large seed=1
python scripts/train.py -m experiment=demo
python scripts/train.py -m experiment=table1 hydra/launcher=local     # or slurm: docs/cluster.md

Exit codes: 0 all runs are finished, 75 the same command resumes what is left, 1 an error, reported
in one line.
"""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import hydra
from hydra._internal import utils
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sns.common.command import safe_streams
from sns.common.errors import UserError
from sns.common.folders import command_words
from sns.launch import several
from sns.launch.attempt import Fault, attempt
from sns.launch.budget import announce, leave
from sns.launch.mistakes import explain
from sns.launch.sweep import CONFIGS
from sns.record import store
from sns.record.attempts import LAUNCHER
from sns.record.state import state_of
from sns.train.configure import configure
from sns.train.stop import RESUMABLE, Interrupted

DEBUG = bool(os.environ.get("SNS_DEBUG") or os.environ.get("HYDRA_FULL_ERROR"))
codes = [0]  # exit codes of the runs of this process
PATIENCE = 10.0  # seconds that a run waits for a terminal or a pipe that takes no output


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
def train(tree: DictConfig) -> None:
    """One run. With -m, Hydra calls this for each run; an error of one never stops the others."""
    overrides = list(HydraConfig.get().overrides.task)
    in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN or LAUNCHER in os.environ
    with reported(overrides):
        config = configure(tree)
        announce(config.launch)
        if config.launch.gpus_per_run > 1 and not several.is_one_of_several():
            if several.start(config.launch.gpus_per_run, [sys.executable, __file__, *overrides]):
                again = in_sweep and state_of(config.directory, config.launch.retries).pending
                codes.append(RESUMABLE if again else 1)
            return
        finished = store.is_finished(config.directory)
        result = attempt(config, shlex.join([*command_words("train"), *overrides]), in_sweep)
        if finished and not in_sweep and result.status != "failed":
            print(f"finished already: {config.directory}, {result.outcome}")
        if result.status == "failed":
            raise UserError(f"{result.run_id} {result.reason}")


@contextmanager
def reported(overrides: list[str]) -> Iterator[None]:
    """Prints an error of one run in one line and notes its exit code; ends the process after a
    stop."""
    try:
        yield
    except (UserError, Fault) as error:
        again = isinstance(error, Fault) and error.again and not several.is_one_of_several()
        codes.append(RESUMABLE if again else 1)
        print(f"error: {error} [{' '.join(overrides)}]", file=sys.stderr)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(RESUMABLE)


def main() -> int:
    """The exit code of the command."""
    utils.run_and_report = lambda function: function()  # Hydra's own reports take more than ten lines
    safe_streams(PATIENCE)
    try:
        train()
    except KeyboardInterrupt:
        print("stopped (SIGINT); the same command resumes", file=sys.stderr)
        return RESUMABLE
    except (HydraException, OmegaConfBaseException) as error:
        if DEBUG:
            raise
        print(f"error: {explain(error, CONFIGS)} (--help lists all; SNS_DEBUG=1 shows the trace)", file=sys.stderr)
        return 1
    except SystemExit as end:
        return end.code if end.code in (0, RESUMABLE) else int(end.code is not None)
    return 1 if 1 in codes else max(codes)


if __name__ == "__main__":
    leave(main())
