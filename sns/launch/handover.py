"""A composed run as it is passed on: to the process that trains it, and to who repeats it.

Nothing that starts a process for a run lets it compose again: the launcher writes the resolved
configuration to a file, and the process gets the name of that file alone.
"""

import hashlib
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from sns.common.errors import UserError, first_line
from sns.common.files import read_yaml, write_text
from sns.common.folders import command_words, project_folder
from sns.config.schema import Config, to_dict
from sns.data.identity import identified
from sns.record.attempts import LAUNCHER
from sns.train.configure import configure

CONFIGS = project_folder("configs")
KEY = "launch.run"


@dataclass(frozen=True, eq=False)
class SweepRun:
    """One run: the words of the command line that define it, what they give, and a command that
    repeats it."""

    overrides: tuple[str, ...]
    config: Config
    command: str = ""


def composed(tree: object, overrides: Sequence[str], hydra: DictConfig) -> SweepRun:
    """The run of a composed tree; `hydra` is Hydra's own part of it. ConfigError for a mistake."""
    return SweepRun(tuple(overrides), identified(configure(tree)), repeating(overrides, hydra))


def repeating(overrides: Sequence[str], hydra: DictConfig) -> str:
    """The command that composes the same run: `overrides`, and where their files are."""
    words = [str(word) for word in hydra.overrides.hydra if str(word).lstrip("+").startswith("hydra.searchpath=")]
    for source in hydra.runtime.config_sources:
        if source.provider == "command-line":
            words += ["--config-dir", str(source.path)]
        elif source.provider == "main" and Path(source.path).resolve() != CONFIGS:
            words += ["--config-path", str(source.path)]
    if hydra.job.config_name not in (None, "config", "config.yaml"):
        words += ["--config-name", hydra.job.config_name]
    return shlex.join([*command_words("train"), *overrides, *words])


@contextmanager
def folder(runs: Sequence[SweepRun]) -> Iterator[Path]:
    """A folder beside the run directories, removed at the end; UserError if there can be none."""
    place = runs[0].config.directory.parent
    try:
        place.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=place, prefix=".launch-", ignore_cleanup_errors=True)
    except OSError as error:
        raise UserError(f"{place} cannot be used ({error.strerror}): make room or set results=...") from None
    with temporary as name:
        yield Path(name)


def write(place: Path, run: SweepRun, progress: str | None = None) -> str:
    """Writes the run to a file in `place` and returns the word that names it to train.py.

    `progress` takes the place of train.progress=auto. UserError where the file cannot be written.
    """
    config, file = run.config, place.resolve() / f"{run.config.run_id}.yaml"
    if progress is not None and config.train.progress == "auto":
        config = replace(config, train=replace(config.train, progress=progress))
    content = {"overrides": list(run.overrides), "command": run.command, "config": to_dict(config)}
    try:
        write_text(file, yaml.safe_dump(content, sort_keys=False))
    except OSError as error:
        raise UserError(f"{file} cannot be written ({error.strerror}): make room or set results=...") from None
    return f"{KEY}={QuotedString(str(file).replace('${', chr(92) + '${'), Quote.single).with_quotes()}"


def named(words: Sequence[str]) -> str | None:
    """The file, where the word of `write` is all that the command line has."""
    if len(words) != 1 or not words[0].startswith(f"{KEY}="):
        return None
    return str(OmegaConf.create([OverridesParser.create().parse_override(words[0]).value()])[0])


def read(file: str) -> SweepRun:
    """The run that `write` wrote; UserError where the file does not hold one."""
    try:
        content = read_yaml(Path(file))
        return SweepRun(tuple(content["overrides"]), configure(content["config"]), content["command"])
    except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(
            f"{KEY}={file} is no run that a launcher wrote ({first_line(error)}): leave {KEY} out"
        ) from None


def first_to_say(file: str | None, text: str) -> bool:
    """Whether no other run of the same launch has printed `text`. `file`: that of the run, if any.

    Each Slurm task has its own log, so there every run is the first.
    """
    if file is None or os.environ.get(LAUNCHER) == "slurm":
        return True
    mark = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()
    try:
        (Path(file).parent / f".said-{mark}").open("x").close()
    except FileExistsError:
        return False
    except OSError:
        return True
    return True


def command(word: str) -> tuple[str, ...]:
    """The present script with that word alone, as a process of its own."""
    return (sys.executable, os.path.abspath(sys.argv[0]), word)
