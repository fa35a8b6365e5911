"""Trains one run, or with -m every run of a sweep. See configs/config.yaml for what can be set.

python scripts/train.py setting=vgg_cifar10 method=spectral batch=large seed=1
python scripts/train.py -m experiment=demo
python scripts/train.py -m experiment=table1 hydra/launcher=local     # or slurm: docs/cluster.md

Exit codes: 0 all runs are finished, 75 the same command resumes what is left, 1 an error, reported
in one line.
"""

import os
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
from sns.common.errors import UserError, in_one_line
from sns.launch import guest, handover, place, several, switches
from sns.launch.attempt import Fault, attempt
from sns.launch.budget import announce, leave
from sns.launch.handover import CONFIGS, SweepRun
from sns.launch.mistakes import explain
from sns.record import store
from sns.record.attempts import LAUNCHER
from sns.record.schema import Result
from sns.record.state import state_of
from sns.train.stop import RESUMABLE, Interrupted

DEBUG = bool(os.environ.get("SNS_DEBUG") or os.environ.get("HYDRA_FULL_ERROR"))
codes = [0]  # exit codes of the runs of this process
PATIENCE = 10.0  # seconds that a run waits for a terminal or a pipe that takes no output


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
def train(tree: DictConfig) -> float | None:
    """One run; its score, if it has ended. With -m, Hydra calls this for each run; an error of one
    never stops the others."""
    here = HydraConfig.get()
    os.chdir(here.runtime.cwd)  # paths are relative to it, whatever hydra.job.chdir says
    multirun = here.mode == RunMode.MULTIRUN
    for_guest = multirun and guest.is_guest(here.sweeper)
    words = [str(word) for word in here.overrides.task]
    with reported(words, again=for_guest, file=tree.get("launch", {}).get("run")):
        run = _run_of(tree, words, here)
        words[:] = run.overrides
        if for_guest:
            guest.check_direction(here.sweeper, run.config)
        result = _train(run, in_sweep=multirun or LAUNCHER in os.environ)
        return None if result is None else guest.objective(result)
    return None


def _run_of(tree: DictConfig, words: list[str], here: DictConfig) -> SweepRun:
    """The run that a launcher has composed, or the one that Hydra has composed here."""
    if tree.get("launch", {}).get("run") is None:
        run = handover.composed(tree, words, here)
        swept = [str(key) for key in here.sweeper.get("params") or ()]
        if swept and here.mode == RunMode.RUN and os.environ.get("RANK", "0") == "0":
            print(
                f"experiment.name={run.config.experiment.name} varies {', '.join(swept)}: this is one of its runs, "
                f"{run.config.run_id}; add -m for all of them",
                file=sys.stderr,
            )
        return run
    if len(words) > 1:
        raise UserError(f"{handover.KEY} takes the place of all other options: leave it out, or them")
    return handover.read(tree.launch.run)


def train_handed_over(file: str) -> None:
    """The run that a launcher has composed and written to `file`, without Hydra."""
    words: list[str] = []
    with reported(words, again=False, file=file):
        run = handover.read(file)
        words[:] = run.overrides
        _train(run, in_sweep=LAUNCHER in os.environ)


def _train(run: SweepRun, in_sweep: bool) -> Result | None:
    """The record of the run; None where several processes have not finished it."""
    config = run.config
    announce(config.launch)
    place.check(config)
    if config.launch.gpus_per_run > 1 and not several.is_one_of_several():
        with handover.folder([run]) as folder:
            code = several.start(config.launch.gpus_per_run, handover.command(handover.write(folder, run)))
        state = state_of(config.directory, config.launch.retries)
        if code:
            codes.append(RESUMABLE if in_sweep and state.pending else 1)
        return state.result
    finished = store.is_finished(config.directory)
    result = attempt(config, run.command, in_sweep)
    if finished and not in_sweep and result.status != "failed":
        print(f"finished already: {config.directory}, {result.outcome}")
    if result.status == "failed":
        raise UserError(f"{result.run_id} {result.reason}")
    return result


@contextmanager
def reported(overrides: list[str], again: bool, file: str | None) -> Iterator[None]:
    """Prints an error of one run in one line, once for all runs of a launch, and notes its exit
    code; ends the process after a stop. `again`: raise the error too, for a sweeper that needs to
    know. `file`: that of a launcher, if one has started the run."""
    try:
        yield
    except (UserError, Fault) as error:
        retry = isinstance(error, Fault) and error.again and not several.is_one_of_several()
        codes.append(RESUMABLE if retry else 1)
        if handover.first_to_say(file, str(error)):
            print(f"error: {error} [{in_one_line(overrides)}]", file=sys.stderr)
        if isinstance(error, guest.WrongDirection):
            sys.exit(1)  # the sweeper catches other errors, and goes on
        if again:
            raise guest.Reported(str(error)) from error
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(RESUMABLE)


def main() -> int:
    """The exit code of the command."""
    if sys.version_info >= (3, 14):
        print("error: Hydra does not start on Python 3.14; use Python 3.11 to 3.13", file=sys.stderr)
        return 1
    utils.run_and_report = lambda function: function()  # Hydra's own reports take more than ten lines
    safe_streams(PATIENCE)
    try:
        sys.argv[1:] = switches.checked(sys.argv[1:])
        file = handover.named(sys.argv[1:])
        if file is None:
            train()
        else:
            train_handed_over(file)
    except KeyboardInterrupt:
        print("stopped (SIGINT); the same command resumes", file=sys.stderr)
        return RESUMABLE
    except guest.Reported:
        return 1
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return RESUMABLE
    except SystemExit as end:
        return end.code if end.code in (0, RESUMABLE) else int(end.code is not None)
    except Exception as error:
        if DEBUG:
            raise
        known = isinstance(error, HydraException | OmegaConfBaseException | UserError)
        text = explain(error, CONFIGS) if known else f"{type(error).__name__}: {explain(error, CONFIGS)}"
        print(f"error: {text} (--help lists all; SNS_DEBUG=1 shows the trace)", file=sys.stderr)
        return 1
    return 1 if 1 in codes else max(codes)


if __name__ == "__main__":
    leave(main())
