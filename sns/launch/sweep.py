"""The expansion of a sweep: every run that `train.py -m` trains, composed and checked.

This is the only place where a sweep is expanded. The sweeper (hydra_plugins), the dry run
(scripts/plan.py), the manifest and the launchers all work on its runs.
"""

import copy
import pickle
import sys
from collections import Counter
from collections.abc import Sequence

from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository, IConfigRepository
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import ConfigDefault, GroupDefault, InputDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from sns.common.errors import UserError, in_one_line
from sns.config.schema import Config, to_dict
from sns.launch.handover import CONFIGS, SweepRun, composed
from sns.launch.mistakes import explain

__all__ = ["CONFIGS", "SweepRun", "dry_run", "expand"]
MANY = 64  # runs that take some seconds to compose
# Options of the sweep as a whole, in section launch
ONCE = ("per_gpu", "per_process", "gpus_per_run", "processes", "budget")


def expand(loader: ConfigLoaderImpl, master: DictConfig) -> tuple[list[SweepRun], list[str]]:
    """The runs in the order of the command line, and a sentence for each combination of values that
    is not valid.

    `master` is the configuration that Hydra composes for `-m`, before any swept value is set. It
    holds the command line and the experiment's hydra.sweeper.params. Where both name a key, the
    command line wins. A swept choice whose file has a `hydra` part (experiment=a,b) has a sweep of
    its own, one after the other. UserError for options of the whole sweep that have several values.
    """
    several = _sweeps(loader, master)
    if several is None:
        runs, errors = _expand_one(loader, master)
    else:
        runs, errors = [], []
        for overrides in several:
            try:
                one = loader.load_configuration(master.hydra.job.config_name, overrides, RunMode.MULTIRUN)
                more, wrong = expand(loader, one)
            except HydraException as error:
                more, wrong = [], [explain(error, CONFIGS)]
            runs, errors = runs + more, errors + wrong
    for key in ONCE:
        values = dict.fromkeys(getattr(run.config.launch, key) for run in runs)
        if len(values) > 1:
            raise UserError(
                f"launch.{key} has several values in this sweep ({', '.join(map(str, values))}): it holds for the "
                "whole sweep; give it one"
            )
    _require_one_value_a_run(runs)
    return runs, list(dict.fromkeys(errors))


def _require_one_value_a_run(runs: Sequence[SweepRun]) -> None:
    """UserError where runs of one run_id differ, in their folder for example: one would be trained.

    Options of launch may differ: each experiment has a priority of its own.
    """
    first: dict[str, SweepRun] = {}
    for run in runs:
        other = first.setdefault(run.config.run_id, run)
        if other.config == run.config:
            continue
        for key, value in _options(run.config):
            before = dict(_options(other.config)).get(key)
            if before != value and not key.startswith("launch."):
                raise UserError(
                    f"{key} has several values in this sweep ({before}, {value}) and does not distinguish runs: "
                    f"{run.config.run_id} would be trained with one of them; start a sweep for each"
                )


def _options(config: Config) -> list[tuple[str, object]]:
    """Every option in full, such as train.epochs, and its value."""
    options: list[tuple[str, object]] = []
    for name, value in to_dict(config).items():
        options += [(f"{name}.{key}", v) for key, v in value.items()] if isinstance(value, dict) else [(name, value)]
    return options


def _words(loader: ConfigLoaderImpl, master: DictConfig) -> tuple[list[Override], list[Override]]:
    """hydra.sweeper.params and the command line, parsed."""
    params = OmegaConf.to_container(master.hydra.sweeper.params or OmegaConf.create())
    typed = OmegaConf.to_container(master.hydra.overrides.task)  # not resolved: ${seed} differs between the runs
    assert isinstance(params, dict)
    assert isinstance(typed, list)
    parser = OverridesParser.create(config_loader=loader)
    return parser.parse_overrides([f"{key!s}={value}" for key, value in params.items()]), parser.parse_overrides(typed)


def _sweeps(loader: ConfigLoaderImpl, master: DictConfig) -> list[list[str]] | None:
    """The command line of each sweep, where a swept choice changes the sweep itself; else None."""
    hydra = [str(word) for word in master.hydra.overrides.hydra]
    _, repository = loader._parse_overrides_and_create_caching_repo(master.hydra.job.config_name, hydra)
    inside, typed = _words(loader, master)
    words = [str(word.input_line) for word in typed]
    for index, override in enumerate([*inside, *typed], -len(inside)):
        group = override.key_or_group
        if not override.is_sweep_override() or not repository.group_exists(group):
            continue
        choices = list(override.sweep_string_iterator())
        if any(_has_hydra_part(repository, f"{group}/{choice}") for choice in choices):
            if index < 0:
                raise UserError(
                    f"hydra.sweeper.params sweeps {group}, whose files change the sweep itself: name {group} on the "
                    "command line"
                )
            key = override.get_key_element()
            return [[*hydra, *words[:index], f"{key}={choice}", *words[index + 1 :]] for choice in choices]
    return None


def _has_hydra_part(repository: IConfigRepository, path: str) -> bool:
    """Whether the YAML file, or one that it builds on, sets options of Hydra."""
    found = repository.load_config(path)
    if found is None:
        return False
    bases = [entry.path for entry in found.defaults_list or [] if isinstance(entry, ConfigDefault) and entry.path]
    group = path.rpartition("/")[0]
    paths = [base[1:] if base.startswith("/") else f"{group}/{base}" for base in bases if base != "_self_"]
    return "hydra" in found.config or any(_has_hydra_part(repository, base) for base in paths)


def _expand_one(loader: ConfigLoaderImpl, master: DictConfig) -> tuple[list[SweepRun], list[str]]:
    """`expand` for one set of hydra.sweeper.params."""
    inside, typed = _words(loader, master)
    parser = OverridesParser.create(config_loader=loader)
    overrides = [*inside, *typed]
    (combinations,) = BasicSweeper.split_arguments(overrides, None)
    composer, parsed = Composer(loader, master), dict[str, Override]()  # most words are in many runs
    if len(combinations) >= MANY:
        print(f"composing {len(combinations)} runs ...", file=sys.stderr, flush=True)
    runs: list[SweepRun] = []
    errors: list[tuple[str, str]] = []
    for combination in combinations:
        try:
            parsed |= {word: parser.parse_override(word) for word in combination if word not in parsed}
            tree = composer.compose([parsed[word] for word in combination])
            runs.append(composed(tree, combination, master.hydra))
        except (UserError, HydraException, ValueError, TypeError) as error:
            errors.append((explain(error, CONFIGS), in_one_line(combination)))
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
        except (HydraException, ValueError, TypeError) as error:
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
        self.groups: dict[str, bool] = {}  # whether the key of an override is a group of files
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
        key = override.key_or_group
        if key not in self.groups:
            self.groups[key] = self.loader.repository.group_exists(key)
        return isinstance(override.value(), dict) or not self.groups[key]
