# Every target sets up what it needs and skips what is already there.
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

ifneq ($(shell test "$(SEEDS)" -ge 1 2>/dev/null && echo yes),yes)
$(error SEEDS=$(SEEDS) must be a whole number of at least 1)
endif

space := $(subst ,, )
comma := ,
SEED_LIST := $(subst $(space),$(comma),$(shell seq 0 $$(($(SEEDS) - 1))))
GRID := results=$(RESULTS) seed=$(SEED_LIST) $(if $(EPOCHS),train.epochs=$(EPOCHS)) $(ARGS)
WHERE := $(RESULTS) $(if $(EXPERIMENT),--experiment $(EXPERIMENT))

.PHONY: help setup lint test test-gpu soak test-browser demo reproduce-table1 table1 figures claims report sync watch dashboard clean

help: ## this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20
	@echo
	@echo "Options: RESULTS=folder SEEDS=3 EPOCHS=300 EXPERIMENT=table1 ARGS='any Hydra overrides' DRY=1 (reproduce-table1)"

setup: $(STAMP) ## virtual environment with pinned versions in .venv

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON3) is older than Python 3.11; name a newer one with PYTHON3=..." >&2; exit 1; }
	test -x $(PYTHON) || $(PYTHON3) -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(PYTHON) -c constraints.txt -e '.[dev]'
	touch $@

lint: $(STAMP) ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(STAMP) lint ## lint and every test
	$(BIN)/pytest -n auto --dist worksteal $(ARGS)

test-gpu: $(STAMP) ## the tests that need a CUDA device
	$(BIN)/python -c 'import torch, sys; sys.exit(not torch.cuda.is_available() and "error: no CUDA device here")'
	$(BIN)/pytest -m gpu $(ARGS)
soak: $(STAMP) ## a small grid under a killer, compared to the bit with a quiet one
	OMP_NUM_THREADS=1 $(PYTHON) tests/soak.py $(ARGS)

test-browser: $(STAMP) ## install Chromium (Debian) and open the report page in it
	command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium chromium-driver >/dev/null; }
	$(BIN)/pytest tests/browser $(ARGS)

demo: $(STAMP) ## the whole grid in minutes on the 8x8 digits, with its table, figures, claims and report
	$(PYTHON) scripts/train.py -m experiment=demo $(GRID)
	$(PYTHON) scripts/publish.py $(RESULTS) --experiment demo

reproduce-table1: $(STAMP) ## the paper's 32 cells on this device, finished runs skipped; DRY=1 lists and estimates
ifneq ($(DRY),)
	$(PYTHON) scripts/plan.py experiment=table1 $(GRID)
else
	@$(PYTHON) scripts/train.py -m experiment=table1 $(GRID); code=$$?; \
		test $$code -eq 75 || $(PYTHON) scripts/table1.py $(RESULTS) --experiment table1; exit $$code
endif

table1: $(STAMP) ## Table 1 from the records in RESULTS
	$(PYTHON) scripts/table1.py $(WHERE)

figures: $(STAMP) ## Figures 1-6 from the records in RESULTS
	$(PYTHON) scripts/figures.py all $(WHERE)

claims: $(STAMP) ## verdicts on the paper's claims from the records in RESULTS
	$(PYTHON) scripts/claims.py $(WHERE)

report: $(STAMP) ## one self-contained page from the records in RESULTS
	$(PYTHON) scripts/report.py $(WHERE)

sync: $(STAMP) ## upload to Weights & Biases what was tracked offline; repeat at will
	$(PYTHON) scripts/sync.py $(RESULTS) $(ARGS)

watch: $(STAMP) ## live curves of a running grid in TensorBoard, from RESULTS alone: no account, no network
	$(PYTHON) scripts/watch.py $(RESULTS) $(if $(EXPERIMENT),--experiment $(EXPERIMENT)) $(ARGS)

dashboard: $(STAMP) ## the shared Weights & Biases workspace and report; ARGS='--entity TEAM' or '--out FOLDER'
	$(PYTHON) scripts/wandb_dashboard.py $(if $(EXPERIMENT),--experiment $(EXPERIMENT)) $(ARGS)

clean: ## caches and build products; records and .venv stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
