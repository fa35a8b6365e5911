# Every target installs what it needs. Finished work is not repeated.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON3 ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(BIN)/python
STAMP := $(VENV)/.complete

RESULTS ?= results
EXPERIMENT ?=
SEEDS ?= 1
EPOCHS ?=
ARGS ?=
DRY ?=
TIME ?=
DEVICE ?= cpu
ROWS ?=
SECONDS ?=
OUT ?=
LAUNCHER ?= basic
WATCH ?=
IMAGES ?=
BUDGET ?=
CASES ?= 2000
RUN ?= $(firstword $(wildcard results/runs/pocket/nin_pocket__spectral__b64__s0__*))

ifneq ($(shell test "$(SEEDS)" -ge 1 2>/dev/null && echo yes),yes)
$(error SEEDS=$(SEEDS) must be a whole number of at least 1)
endif

space := $(subst ,, )
comma := ,
SEED_LIST := $(subst $(space),$(comma),$(shell seq 0 $$(($(SEEDS) - 1))))
OVERRIDES := results=$(RESULTS) seed=$(SEED_LIST) $(if $(EPOCHS),train.epochs=$(EPOCHS)) \
	$(if $(BUDGET),launch.budget=$(BUDGET)) $(ARGS)
TABLE1 := $(or $(EXPERIMENT),table1)
WHERE := $(RESULTS) $(if $(EXPERIMENT),--experiment $(EXPERIMENT))

.PHONY: help setup lint test test-gpu test-browser test-slurm soak soak-faults demo pocket bakeoff sngan-pocket sensitivity reproduce-table1 reproduce-sngan status table1 scores
.PHONY: figures claims report errata bench gpu-check verify-results verify-retrain sync watch dashboard clean

help: ## this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20
	@echo
	@echo "Options, such as make demo SEEDS=3:"
	@echo "  all                RESULTS=folder EXPERIMENT=table1 ARGS='further options of the script'"
	@echo "  demo               SEEDS=3 EPOCHS=100 BUDGET=9m (stops after it; the same command resumes)"
	@echo "  reproduce-table1   the same, EXPERIMENT=table1_short (96 epochs), LAUNCHER=local|slurm, DRY=1, DRY=1 TIME=1 (times updates first)"
	@echo "  bench              DEVICE=cuda ROWS=1,5 SECONDS=540 OUT=file"

setup: $(STAMP) ## virtual environment with pinned versions in .venv

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON3) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "error: $(PYTHON3) is not Python 3.11 to 3.13 (Hydra does not start on 3.14); name one with PYTHON3=..." >&2; \
		exit 1; }
	test -x $(PYTHON) || $(PYTHON3) -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(PYTHON) -c constraints.txt -e '.[dev]'
	touch $@

lint: $(STAMP) ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(STAMP) lint ## lint and every test
	$(BIN)/pytest -n auto --dist worksteal $(ARGS)

test-gpu: $(STAMP) ## the tests that need a CUDA device, without those that compile for minutes: ARGS='-m compiled'
	$(BIN)/python -c 'import torch, sys; sys.exit(not torch.cuda.is_available() and "error: no CUDA device here")'
	$(BIN)/pytest -m 'gpu and not compiled' $(ARGS)

soak: $(STAMP) ## a small sweep whose processes are killed at random, compared bit by bit with an undisturbed one
	OMP_NUM_THREADS=1 $(PYTHON) tests/soak.py $(ARGS)

soak-faults: $(STAMP) ## random command lines, results folders and streams: CASES=5000 of each
	SNS_SOAK=$(CASES) $(BIN)/pytest tests/test_fault_soak.py $(ARGS)

test-browser: $(STAMP) ## tests of the report page in Chromium, which is installed if missing (Debian)
	command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium chromium-driver >/dev/null; }
	$(BIN)/pytest tests/browser $(ARGS)

test-slurm: $(STAMP) ## tests on a Slurm that is started on this machine (Debian, root) and stopped at the end
	@set -e; tool=tools/slurm_single_node.sh; trap "$$tool down" EXIT; \
		$(BIN)/uv pip install --quiet --python $(PYTHON) -c constraints.txt -e '.[dev,cluster]'; \
		export SLURM_CI_CPUS=2; $$tool up; eval "$$($$tool env)"; \
		OMP_NUM_THREADS=1 SNS_TEST_SLURM=1 $(BIN)/pytest tests/slurm $(ARGS)

# Runs side by side, one a core; on a GPU one after the other in one process.
demo: LAUNCHER = $(if $(wildcard /dev/nvidia0),basic,local)
demo: $(STAMP) ## every cell on 8x8 digits, in minutes, then the table, figures, claims and report
	$(PYTHON) scripts/train.py -m experiment=demo hydra/launcher=$(LAUNCHER) $(OVERRIDES)
	$(PYTHON) scripts/publish.py $(RESULTS) --experiment demo

pocket: $(STAMP) ## small networks on 5,000 CIFAR images: 216 runs of minutes on one core, then the same pages
	$(PYTHON) scripts/train.py -m experiment=pocket results=$(RESULTS) $(ARGS)
	$(PYTHON) scripts/publish.py $(RESULTS) --experiment pocket

bakeoff: $(STAMP) ## every method tuned, then compared on small networks; then optimizers: 648 runs, ARGS='any Hydra overrides'
	$(PYTHON) scripts/train.py -m experiment=bakeoff_tuning results=$(RESULTS) $(ARGS)
	$(PYTHON) scripts/bakeoff.py choose $(RESULTS) --experiment bakeoff_tuning
	$(PYTHON) scripts/train.py -m experiment=bakeoff results=$(RESULTS) $(ARGS)
	$(PYTHON) scripts/train.py -m experiment=bakeoff_rates results=$(RESULTS) $(ARGS)
	$(PYTHON) scripts/bakeoff.py choose $(RESULTS) --experiment bakeoff_rates
	$(PYTHON) scripts/train.py -m experiment=bakeoff_optim_tuning results=$(RESULTS) $(ARGS)
	$(PYTHON) scripts/bakeoff.py choose $(RESULTS) --experiment bakeoff_optim_tuning
	$(PYTHON) scripts/train.py -m experiment=bakeoff_optim results=$(RESULTS) $(ARGS)
	$(PYTHON) scripts/bakeoff.py show $(RESULTS)
	$(PYTHON) scripts/report.py $(RESULTS) --experiment bakeoff

sngan-pocket: $(STAMP) ## spectral normalization for GANs and its rivals on CIFAR-10 at 16x16 (a classifier first), then all of its pages
	$(PYTHON) scripts/train.py -m experiment=sngan_classifier results=$(RESULTS) $(ARGS)
	$(PYTHON) scripts/train.py -m experiment=sngan_pocket results=$(RESULTS) $(ARGS)
	$(PYTHON) scripts/sngan.py all $(RESULTS) --experiment sngan_pocket

SENSITIVITY := ghost decay_scope dropout iterations operator precision batch_norm

sensitivity: $(STAMP) ## studies that vary one choice each: 118 runs of minutes, 4 of them of 25, then the tables (make pocket first)
	@code=0; for study in $(SENSITIVITY); do \
		$(PYTHON) scripts/train.py -m experiment=sensitivity/$$study results=$(RESULTS) $(ARGS) || code=$$?; \
		test $$code -ne 75 || exit 75; \
	done; $(PYTHON) scripts/sensitivity.py $(RESULTS) || code=$$?; exit $$code

reproduce-table1: $(STAMP) ## trains those of the paper's 32 cells that are not finished, then Table 1; DRY=1 only lists them
ifneq ($(DRY),)
	$(PYTHON) scripts/plan.py experiment=$(TABLE1) $(OVERRIDES) $(if $(TIME),--time)
else
	@$(PYTHON) scripts/train.py -m experiment=$(TABLE1) hydra/launcher=$(LAUNCHER) $(OVERRIDES); code=$$?; \
		$(if $(BUDGET),test $$code -eq 75 ||) $(PYTHON) scripts/table1.py $(RESULTS) --experiment $(TABLE1) --or-empty; exit $$code
endif

SNGAN := $(or $(EXPERIMENT),sngan)

reproduce-sngan: $(STAMP) ## the same for SN-GAN's Table 2 at full size, on a GPU; EXPERIMENT=sngan_resnet, sngan_hinge
ifneq ($(DRY),)
	$(PYTHON) scripts/plan.py experiment=$(SNGAN) $(OVERRIDES) $(if $(TIME),--time)
else
	@$(PYTHON) scripts/train.py -m experiment=$(SNGAN) hydra/launcher=$(LAUNCHER) $(OVERRIDES); code=$$?; \
		$(if $(BUDGET),test $$code -eq 75 ||) $(PYTHON) scripts/sngan.py all $(RESULTS) --experiment $(SNGAN); exit $$code
endif

status: $(STAMP) ## the state of every run of an experiment; WATCH=1 refreshes
	@$(PYTHON) scripts/status.py $(WHERE) $(if $(WATCH),--watch)

table1: $(STAMP) ## Table 1 from the records in RESULTS
	$(PYTHON) scripts/table1.py $(WHERE)

scores: $(STAMP) ## the score of every cell of any task from the records in RESULTS
	$(PYTHON) scripts/scores.py $(WHERE)

figures: $(STAMP) ## Figures 1-6 from the records in RESULTS
	$(PYTHON) scripts/figures.py all $(WHERE)

claims: $(STAMP) ## verdicts on the paper's claims from the records in RESULTS
	$(PYTHON) scripts/claims.py $(WHERE)

report: $(STAMP) ## one self-contained page from the records in RESULTS
	$(PYTHON) scripts/report.py $(WHERE)

errata: $(STAMP) ## the paper's errata in numbers, docs/reproduction.md
	$(PYTHON) scripts/errata.py $(RESULTS)

gpu-check: $(STAMP) ## a new GPU machine in three minutes: smoke run, step times, hours of the table, options; OUT=file, docs/gpu.md
	$(PYTHON) scripts/gpu_check.py $(if $(OUT),--out $(OUT)) $(ARGS)

bench: $(STAMP) ## speed against other implementations and lower bounds, bench/README.md; DEVICE=cuda ROWS=1,5 OUT=FILE
	@$(BIN)/uv pip install --quiet --python $(PYTHON) --no-deps -r bench/requirements.txt || \
		echo "the packages of bench/requirements.txt could not be installed: their rows will say so" >&2
	$(PYTHON) bench/run.py --device $(DEVICE) $(if $(ROWS),--rows $(ROWS)) $(if $(SECONDS),--seconds $(SECONDS)) \
		$(if $(OUT),--out $(OUT)) $(ARGS)

verify-results: $(STAMP) ## check the records, and that tables, figures, claims and report follow from them
	$(PYTHON) scripts/verify.py $(RESULTS)

verify-retrain: $(STAMP) ## train one recorded run again and compare: RUN=directory ARGS=data.path=FILE (default: pocket)
	$(PYTHON) scripts/verify.py --retrain $(RUN) $(ARGS)

sync: $(STAMP) ## upload runs tracked offline to Weights & Biases; may be repeated
	$(PYTHON) scripts/sync.py $(RESULTS) $(ARGS)

watch: $(STAMP) ## live curves of a running sweep in TensorBoard, from RESULTS alone: no account, no network
	$(PYTHON) scripts/watch.py $(RESULTS) $(if $(EXPERIMENT),--experiment $(EXPERIMENT)) $(ARGS)

dashboard: $(STAMP) ## the shared Weights & Biases workspace and report; ARGS='--entity TEAM' or '--out FOLDER'
	$(PYTHON) scripts/wandb_dashboard.py $(if $(EXPERIMENT),--experiment $(EXPERIMENT)) $(ARGS)

.PHONY: gpu-kit
gpu-kit: $(STAMP) ## build/gpu-kit for a machine without network: IMAGES='FILE.npz FOLDER' ARGS='--python 3.12'; docs/gpu.md
	$(PYTHON) -m tools.offline_kit.build --images $(IMAGES) $(ARGS)

clean: ## remove caches and build products; records and .venv stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
