# The whole toolchain. Every target first does the set-up that is missing; what is there already is
# recognised by its content, so that a second run starts in seconds.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
LOCKS := images/locks
IMAGES := base broker postgres registry sandbox-minimal sandbox-science

# Testcontainers would pull an image to clean up after it; our containers carry a label instead.
export TESTCONTAINERS_RYUK_DISABLED := true

# A stamp is named by the content that it stands for: change a pin and the name changes; go back to
# an older commit and the environment follows.
digest = $(shell cat $(1) | sha256sum | cut -c1-16)
PACKAGES := $(VENV)/.packages-$(call digest,$(LOCKS)/dev.txt images/venv.sh)
FUZZING := $(VENV)/.fuzzing-$(call digest,$(LOCKS)/dev.txt $(LOCKS)/fuzz.txt images/venv.sh)
PROJECT := $(VENV)/.project-$(call digest,pyproject.toml)

.PHONY: help setup demo test test-alone chaos fuzz gvisor check bench locks clean up down vehicle-up vehicle-down

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

setup: $(PROJECT) ## virtual environment, container engine and images
	@images/engine.sh
	images/compose.sh || echo "compose: 'make up' and its test want it; all else works without"
	$(BIN)/python -m images.build $(IMAGES)

demo: setup ## a fleet on this machine: deploy, run, replace while it runs
	@$(BIN)/oodida demo

# Unit tests and short runs of the fuzzer need nothing but a processor. Those that wait for an engine
# and for each other's parts do so two at a time. What looks at the whole machine, or breaks it, has it
# for itself: that is the other half, of which this one has the isolation of a call.
SHARED := tests/contract tests/integration tests/end_to_end
test: setup check ## setup, check, and the tests that can share a machine: 13 minutes
	@$(BIN)/pytest tests/unit tests/fuzz -n 2
	$(BIN)/pytest $(SHARED) -m "not alone" -n 2 --dist loadfile
	$(BIN)/pytest tests/attack/test_isolation.py -k "call and not runsc"

test-alone: setup ## the others: attacks, chaos, and engines, brokers and images that go: 13 minutes
	@$(BIN)/pytest tests/attack tests/chaos
	$(BIN)/pytest $(SHARED) -m alone

chaos: setup ## break a system of 20 vehicles at random points, SEEDS=1 times, and see what was lost
	@$(BIN)/python -m tests.chaos --seeds $(or $(SEEDS),1)

fuzz: $(PROJECT) $(FUZZING) ## hostile bytes for every parser and part, SECONDS=60 in all; no engine needed
	@$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60)

gvisor: setup ## the attacks on the sandbox once more, under gVisor
	@$(BIN)/pytest tests/attack --sandbox-runtime=runsc

check: $(PROJECT) ## lint, format and strict types over everything (no engine needed)
	@$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m images.advisories

bench: setup ## each figure that the README quotes, as JSON
	@for bench in bench/[a-z]*.py; do
	    echo "== $$bench"
	    $(BIN)/python "$$bench"
	done

locks: ## make the hash-pinned locks again, with the newest versions that pyproject.toml allows
	@images/lock.sh

up: setup ## the cloud on this machine, with Docker Compose: docs/how-to/run-a-cloud.md
	@compose/deploy.sh up cloud

down: ## end it; its volumes stay, unless VOLUMES=remove
	@compose/deploy.sh down cloud $(if $(filter remove,$(VOLUMES)),--volumes)

vehicle-up: ## one vehicle: OODIDA_VEHICLE=car-1 OODIDA_BROKER_URL=mqtts://host:8883 OODIDA_IDENTITY=FOLDER make vehicle-up
	@compose/deploy.sh check vehicle
	$(MAKE) setup
	compose/deploy.sh up vehicle

vehicle-down: ## end it; its volume stays, unless VOLUMES=remove
	@compose/deploy.sh down vehicle $(if $(filter remove,$(VOLUMES)),--volumes)

clean: ## remove the environment, caches of tools, and this project's images
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m images.build --clean || true; fi
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PACKAGES):
	@echo "setup: the first time takes two to five minutes: packages, then an engine and images"
	images/venv.sh $(VENV) $(LOCKS)/dev.txt
	touch $@

# Large, and not there for every machine: without it the fuzzing changes its seeds alone, and says so.
$(FUZZING): $(PACKAGES)
	@if $(BIN)/python -m pip -qq --disable-pip-version-check install --no-deps --require-hashes \
	    --only-binary=:all: --requirement $(LOCKS)/fuzz.txt; then
	    rm -f $(VENV)/.fuzzing-*
	    touch $@
	else
	    echo "fuzz: atheris cannot be had here; the seeds are changed without it"
	fi

$(PROJECT): $(PACKAGES)
	@$(BIN)/python -m pip -qq install --no-deps --no-build-isolation --no-index --editable .
	rm -f $(VENV)/.project-*
	touch $@
