# Every target sets up what it needs: `make demo` and `make test` work on a fresh clone.

PYTHON ?= python3
PIP_INSTALL = install --quiet --disable-pip-version-check
PINNED = --constraint constraints.txt
SOURCES = pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test check bench bench-quality bench-bundles bench-day bench-peers bench-training chaos soak fuzz notebooks report-check home-assistant deb test-install test-arm figures demo-bundle options mosquitto chromium format clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv-gateway/ready ## the whole line on this machine, in about a minute: broker, fridges, agent, alerts
	@.venv-gateway/bin/vedette demo

test: .venv/ready .venv-gateway/ready .venv-tflite/ready mosquitto ## every test that is quick enough for every change
	.venv/bin/python -m pytest

check: .venv/ready ## style, types and which part may import which
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: .venv/ready .venv-gateway/ready mosquitto ## speed, latency, scale, memory and start, beside a bare subscriber and a baseline program, in eight minutes; figures in build/figures/engine.json
	.venv/bin/python tests/bench/engine.py

bench-peers: .venv/ready .venv-gateway/ready mosquitto ## CPU and memory beside Node-RED, which npm puts into build/peers; figures in build/figures/peers.json
	.venv/bin/python tests/bench/peers.py

SECONDS ?= 3600
soak: .venv/ready .venv-gateway/ready mosquitto ## an hour at half load (SECONDS=60 is a minute): memory, and every reading; FAULTS=1 makes things go wrong meanwhile; figures in build/figures/soak.json
	.venv/bin/python tests/bench/soak.py --seconds $(SECONDS) $(if $(FAULTS),--faults --seed $(SEED))

SEED ?= 1
chaos: .venv/ready .venv-gateway/ready mosquitto ## a thousand kills of agent and broker, a network that fails, torn databases, full disks, floods, in about two hours (PARTS="kills faults", SEED=7); figures in build/figures/chaos.json
	.venv/bin/python tests/chaos/main.py --seed $(SEED) $(if $(PARTS),--only $(PARTS))

EXECUTIONS ?= 10000000
fuzz: .venv/ready .venv-fuzz/ready ## coverage-guided fuzzing of every reader of what others wrote, 10 M executions (EXECUTIONS=100000 is a minute); figures in build/figures/fuzz.json
	.venv/bin/python tests/fuzz/campaign.py --executions $(EXECUTIONS)

bench-quality: .venv/ready ## detection on real labelled data, every detector; figures in build/figures/quality.json
	.venv/bin/python tests/bench/quality.py

bench-bundles: .venv/ready .venv-gateway/ready mosquitto ## models on their way to a gateway: the conversion matrix, corruption, kill -9, swaps under load; figures in build/figures/bundles.json
	.venv/bin/python tests/bench/bundles.py

bench-day: .venv/ready ## a recorded day of simulated fridges with faults through every detector, in about a quarter of an hour; figures in build/figures/day.json
	.venv/bin/python tests/bench/day.py

bench-training: .venv/ready ## training speed of the LSTM autoencoder beside the notebook's way; figures in build/figures/training.json
	.venv/bin/python tests/bench/training_speed.py

notebooks: .venv/ready ## the table in docs/notebooks.md: every system of the two notebooks, trained, exported and judged
	.venv/bin/python tests/bench/notebooks.py

report-check: .venv/ready chromium ## the report in headless Chromium, light and dark, wide and narrow; pictures in build/report/
	.venv/bin/python -m pytest tests/training/test_report_in_browser.py

home-assistant: .venv/ready .venv-home-assistant/ready ## Home Assistant's own code on what it is told; with PYTHON=python3.13, which it needs
	.venv/bin/python -m pytest tests/agent/test_homeassistant_itself.py

DEB_PYTHON ?= 3.11
deb: .venv/ready ## dist/vedette_VERSION_{amd64,arm64}.deb for Debian 12 and Raspberry Pi OS (DEB_PYTHON=3.13: for Debian 13), on any machine with the network, in a minute or two
	.venv/bin/python systemd/deb/build.py --python $(DEB_PYTHON)

test-install: .venv/ready ## the package in a Debian booted by systemd-nspawn: install, start, alerts, update, kill -9, upgrade, purge, in about five minutes; needs root; figures in build/figures/install.json
	.venv/bin/python tests/install/main.py --python $(DEB_PYTHON)

test-arm: .venv/ready .venv-gateway/ready .venv-tflite/ready ## the agent on 64- and 32-bit ARM, emulated by qemu: the scores, alerts and reasons of this machine, and the agent's own tests, in an hour or two (ONLY=arm64, PARTS=scores); needs root and Debian; figures in build/figures/arm.json
	.venv/bin/python tests/arm/main.py $(if $(ONLY),--only $(ONLY)) $(if $(PARTS),--parts $(PARTS))

figures: .venv/ready ## all measured figures as one table, missed bars first
	.venv/bin/python tests/bench/figures.py

demo-bundle: .venv/ready ## make the demo's bundle anew from its recipe
	.venv/bin/python tests/demo_bundle.py

options: .venv/ready ## make docs/options.md anew from the configuration's structs
	.venv/bin/python tests/options_page.py

format: .venv/ready ## put the code into house style
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

chromium:
	@tests/install-chromium

mosquitto:
	@tests/install-mosquitto

# What a gateway has, and nothing else; the demo's own broker only where mosquitto is not there.
.venv-gateway/ready: $(SOURCES)
	@echo "setting up the gateway's environment (about half a minute) ..."
	@$(call venv,.venv-gateway)
	@extra=gateway; tests/install-mosquitto --look || extra=demo; \
	  .venv-gateway/bin/python -m pip $(PIP_INSTALL) $(PINNED) --editable ".[$$extra]"
	@touch $@

# A gateway with the older runtime. Its wheels end with Python 3.11; with a newer one nothing is made, and the test that needs it skips.
.venv-tflite/ready: $(SOURCES) constraints-tflite.txt
	@if $(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then \
	  echo "setting up an environment with tflite-runtime (a few seconds) ..." && \
	  $(call venv,.venv-tflite) && \
	  grep -v '^numpy==' constraints.txt | cat - constraints-tflite.txt > .venv-tflite/constraints.txt && \
	  .venv-tflite/bin/python -m pip $(PIP_INSTALL) --constraint .venv-tflite/constraints.txt --editable '.[tflite]' && \
	  touch $@; \
	else \
	  echo "no environment with tflite-runtime, which needs Python 3.11 or older: make PYTHON=python3.11 ..."; \
	fi

# Apart from the rest: atheris is there for few versions of Python and few machines.
.venv-fuzz/ready: $(SOURCES)
	@echo "setting up an environment with atheris (a few seconds) ..."
	@$(call venv,.venv-fuzz)
	@.venv-fuzz/bin/python -m pip $(PIP_INSTALL) $(PINNED) --editable '.[fuzz]'
	@touch $@

# Home Assistant's own code, with the versions that it names: what it leaves open does not resolve in a sensible time.
HOME_ASSISTANT = 2026.2.3
.venv-home-assistant/ready:
	@echo "setting up an environment with Home Assistant $(HOME_ASSISTANT) (a few minutes) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 13, 2) and "Home Assistant needs Python 3.13.2 or newer; name one: make home-assistant PYTHON=python3.13")'
	@$(PYTHON) -m venv .venv-home-assistant
	@.venv-home-assistant/bin/python -m pip $(PIP_INSTALL) --no-deps homeassistant==$(HOME_ASSISTANT)
	@.venv-home-assistant/bin/python -m pip $(PIP_INSTALL) homeassistant==$(HOME_ASSISTANT) paho-mqtt hassil \
	  --constraint .venv-home-assistant/lib/python3*/site-packages/homeassistant/package_constraints.txt
	@touch $@

.venv/ready: $(SOURCES)
	@echo "setting up the workstation's environment (a minute or two: TensorFlow) ..."
	@$(call venv,.venv)
	@.venv/bin/python -m pip $(PIP_INSTALL) $(PINNED) --editable '.[dev]'
	@touch $@

define venv
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vedette needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")' && \
  { $(PYTHON) -m venv $(1) || { echo "python3-venv is missing: apt install python3-venv" >&2; exit 1; }; }
endef

clean: ## remove environments and build results
	rm -rf .venv .venv-gateway .venv-tflite .venv-fuzz .venv-home-assistant build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
