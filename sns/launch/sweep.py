"""The expansion of a sweep: every run that `train.py -m` trains, composed and checked.

This is the only place where a sweep is expanded. The sweeper (hydra_plugins), the dry run
(scripts/plan.py), the manifest and the launchers all work on its runs.
"""

import copy
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import GroupDefault, InputDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from sns.common.errors import UserError
from sns.common.folders import project_folder
from sns.config.schema import Config
from sns.launch.mistakes import explain
from sns.train.configure import configure

CONFIGS = project_folder("configs")


@dataclass(frozen=True, eq=False)
class SweepRun:
    """One run of a sweep, and the command-line overrides that define it."""

    overrides: tuple[str, ...]
    config: Config


def expand(loader: ConfigLoaderImpl, master: DictConfig) -> tuple[list[SweepRun], list[str]]:
    """The runs in the order of the command line, and a sentence for each combination of values that
    is not valid.

    `master` is the configuration that Hydra composes for `-m`, before any swept value is set. It
    holds the command line and the experiment's hydra.sweeper.params. Where both name a key, the
    command line wins.
    """
    params = OmegaConf.to_container(master.hydra.sweeper.params or OmegaConf.create())
    typed = OmegaConf.to_container(master.hydra.overrides.task)  # not resolved: ${seed} differs between the runs
    assert isinstance(params, dict)
    assert isinstance(typed, list)
    parser = OverridesParser.create(config_loader=loader)
    overrides = parser.parse_overrides([*(f"{key!s}={value}" for key, value in params.items()), *typed])
    (combinations,) = BasicSweeper.split_arguments(overrides, None)
    composer = Composer(loader, master)
    runs: list[SweepRun] = []
    errors: list[tuple[str, str]] = []
    for combination in combinations:
        try:
            tree = composer.compose(parser.parse_overrides(combination))
            runs.append(SweepRun(tuple(combination), configure(tree)))
        except (UserError, HydraException) as error:
            errors.append((explain(error, CONFIGS), " ".join(combination)))
    return runs, _once(errors)


def _once(errors: Sequence[tuple[str, str]]) -> list[str]:
    """A line for each mistake, with the first combination of values that has it."""
    first = dict(reversed(errors))
    counts = Counter(message for message, _ in errors)
    return [
        f"{message} [{first[message]}{f', and {count - 1} more' if count > 1 else ''}]"
        for message, count in counts.items()
    ]


def dry_run(overrides: Sequence[str]) -> tuple[list[SweepRun], list[str]]:
    """`expand` of `train.py -m <overrides>` without a launch; UserError for a mistake in them."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        assert isinstance(loader, ConfigLoaderImpl)
        try:
            return expand(loader, loader.load_configuration("config", list(overrides), RunMode.MULTIRUN))
        except HydraException as error:
            raise UserError(explain(error, CONFIGS)) from None


class ReadOnce(ConfigRepository):
    """The YAML files of runs, each read and parsed once, without what they choose for Hydra itself.
    Hydra copies its repository for every run that it composes, and writes to the trees that it
    reads."""

    def __init__(self, search_path: ConfigSearchPath) -> None:
        super().__init__(search_path)
        self.read: dict[str, bytes] = {}

    def __deepcopy__(self, memo: object) -> "ReadOnce":
        return self

    def load_config(self, config_path: str) -> ConfigResult | None:
        """A copy of one file's content, None where there is no such file."""
        if config_path not in self.read:
            loaded = super().load_config(config_path)
            if loaded is not None:
                loaded.defaults_list = [d for d in loaded.defaults_list or [] if not _chooses_for_hydra(d)]
            self.read[config_path] = pickle.dumps(loaded)
        content: ConfigResult | None = pickle.loads(self.read[config_path])
        return content


def _chooses_for_hydra(default: InputDefault) -> bool:
    return isinstance(default, GroupDefault) and str(default.group).lstrip("/").startswith("hydra/")


class Composer:
    """Composes the runs of one sweep as Hydra does, and reads the YAML files once for each choice
    of them.

    Hydra chooses the files first (setting=..., method=...) and sets single values afterwards
    (seed=...). Reading and merging the files takes nearly all of the time; many runs of a sweep
    choose the same. Hydra's own section, half of the files, is composed in `master` only. Trees are
    stored pickled, which copies them seven times faster than deepcopy.
    """

    def __init__(self, loader: ConfigLoaderImpl, master: DictConfig) -> None:
        self.loader, self.master = copy.copy(loader), master
        self.trees: dict[tuple[str, ...], bytes] = {}
        self.may_share = not OmegaConf.select(master, "hydra.searchpath")  # it may add groups of files
        if self.may_share:
            self.loader.repository = ReadOnce(loader.config_search_path)

    def compose(self, overrides: Sequence[Override]) -> DictConfig:
        """The unresolved tree of one run; HydraException where an override does not fit."""
        values = [override for override in overrides if self._sets_a_value(override)]
        files = tuple(str(override.input_line) for override in overrides if not self._sets_a_value(override))
        if files not in self.trees:
            chosen = [override for override in overrides if not self._sets_a_value(override)]
            tree = self._merge(chosen) if self.may_share else self.loader.load_sweep_config(self.master, list(files))
            with open_dict(tree):
                tree.pop("hydra", None)
            self.trees[files] = pickle.dumps(tree)
        copied: DictConfig = pickle.loads(self.trees[files])
        ConfigLoaderImpl._apply_overrides_to_config(values, copied)
        return copied

    def _merge(self, overrides: Sequence[Override]) -> DictConfig:
        """The files that `overrides` choose, merged as `load_sweep_config` does."""
        repo = CachingConfigRepository(self.loader.repository)
        own = [override for override in overrides if not override.is_hydra_override()]
        name = self.master.hydra.job.config_name
        chosen = create_defaults_list(repo, name, own, prepend_hydra=False, skip_missing=False)
        tree = self.loader._compose_config_from_defaults_list(chosen.defaults, repo)
        OmegaConf.set_struct(tree, True)
        ConfigLoaderImpl._apply_overrides_to_config(chosen.config_overrides, tree)
        OmegaConf.copy_cache(from_config=self.master, to_config=tree)
        return tree

    def _sets_a_value(self, override: Override) -> bool:
        """Whether Hydra applies the override after it has merged the files."""
        if not self.may_share or override.is_hydra_override():
            return False
        return isinstance(override.value(), dict) or not self.loader.repository.group_exists(override.key_or_group)
