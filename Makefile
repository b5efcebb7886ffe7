# Everything happens in .venv, which the first target that needs it makes. The demo needs the base
# installation alone; the others need the tools and PyTorch, too.
#     make PYTHON=python3.12 test     uses another Python (3.11 to 3.13)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Named after the version, so that another PYTHON makes another environment.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
BASE := $(VENV)/.base-$(VERSION)
INSTALLED := $(VENV)/.installed-$(VERSION)
# Modules are compiled when they are first imported: most of what is installed never is.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

DEMO := demo-shards
LOCK := build/lock
BENCH := build/bench

# Where it is set, each of the processes that the tests start would compile the program anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint format pytest cluster reference bench gpu faults lock clean
.NOTPARALLEL:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## make .venv and install exactcpt and the tools into it

$(BASE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "$(PYTHON) is not Python 3.11 to 3.13; name one that is: make PYTHON=python3.12 ..." >&2; \
		exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) -e .
	@touch $@

$(INSTALLED): $(BASE)
	$(PIP) -e ".[dev]"
	@touch $@

demo: $(BASE) ## prepare the small corpus of tests/data; print its histogram and weights
	$(BIN)/exactcpt prepare --overwrite \
		--source novels=tests/data/novels.jsonl.zst \
		--source jargon=tests/data/jargon.jsonl.gz \
		--source poems=tests/data/poems.jsonl \
		--source proposals=tests/data/proposals.jsonl \
		--tokenizer tests/data/tokenizer.json --window 4096 --out $(DEMO)
	@printf '%s\n' '' 'What next:' \
		'  $(BIN)/exactcpt show $(DEMO)' \
		'      what the model will read: documents, effective contexts, weights' \
		'  $(BIN)/exactcpt inspect $(DEMO).store --window 4096,16384 --packing concat,best_fit' \
		'      what other windows would give; --html FILE writes a page' \
		'  $(BIN)/exactcpt verify $(DEMO)' \
		'      checks every claim of the shards' \
		'  $(BIN)/exactcpt pack $(DEMO).store --window 8192 --out $(DEMO)-8192' \
		'      another window, without tokenizing again' \
		'  $(BIN)/exactcpt prepare --help' \
		'      the same for a corpus of your own' \
		'  docs/README.md' \
		'      the pages on everything else; schemas/README.md has the shards, for your trainer'

test: lint pytest ## run every check: ruff, pyright, hadolint, pytest

check: lint ## the fast lane: ruff, pyright, hadolint, and the tests that are not slow
	$(BIN)/python -m pytest -n auto --dist worksteal -m 'not slow' $(ARGS)

lint: $(INSTALLED) ## ruff, pyright and hadolint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/hadolint docker/*.Dockerfile

format: $(INSTALLED) ## let ruff repair and format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

pytest: $(INSTALLED) ## the tests alone, on all cores; choose some with ARGS="-k packing"
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

cluster: $(INSTALLED) ## whole jobs on engines on this machine: Spark, Prism, Flink, as far as they are at hand
	$(BIN)/python -m pytest -v -rs tests/cluster $(ARGS)

reference: $(INSTALLED) ## write docs/commands.md from the help of the commands
	$(BIN)/python tests/helpers/command_reference.py

bench: $(INSTALLED) ## speed and memory, as tables and JSON; takes a while
	$(BIN)/python tests/benchmarks/core.py
	$(BIN)/python tests/benchmarks/whatif.py
	$(BIN)/python tests/benchmarks/loader.py
	$(BIN)/python tests/benchmarks/api.py
	$(BIN)/python tests/benchmarks/loss.py
	$(BIN)/python tests/benchmarks/training.py
	$(BIN)/python tests/benchmarks/evaluation.py
	$(BIN)/python tests/benchmarks/prepare.py --work $(BENCH) --peer-venv $(BENCH)/datatrove $(ARGS)

gpu: $(INSTALLED) ## tests and training speed on a CUDA device, within eight minutes
	$(BIN)/python tests/gpu/run.py $(ARGS)

faults: $(INSTALLED) ## crash, fill the disk, cut the power at every file operation; 1,000 kills; hours
	$(BIN)/python tests/faults/run.py --kills 1000 --json build/faults.json $(ARGS)

# One version of torch: the one that everything here was tried with. Its CUDA libraries are left
# out: torch pins them itself, and a pin here would make pip replace those of another build or image.
lock: ## write constraints.txt again; for the newest versions: ARGS=--upgrade
	$(PYTHON) -m venv --clear $(LOCK)
	$(LOCK)/bin/python -m pip install --quiet --disable-pip-version-check uv
	echo 'torch==2.13.0' > $(LOCK)/torch.txt
	cp constraints.txt $(LOCK)/all.txt
	$(LOCK)/bin/uv pip compile --quiet --universal --python-version 3.11 --extra dev \
		--constraints $(LOCK)/torch.txt --no-annotate --no-emit-index-url --no-emit-find-links \
		--custom-compile-command "make lock" $(ARGS) pyproject.toml --output-file $(LOCK)/all.txt
	grep -vE '^(cuda|nvidia|triton)' $(LOCK)/all.txt > constraints.txt

clean: ## remove .venv and what the demo wrote
	rm -rf $(VENV) build $(DEMO) $(DEMO).store $(DEMO)-8192
