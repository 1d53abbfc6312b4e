# Two commands do it all on a fresh machine: `make demo` and `make test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup setup-test demo ui test test-fast lint e2e-ui e2e-slurm bench bench-worker bench-control-plane bench-plan bench-ingest bench-delta bench-gpu gpu-check chaos docs locks test-dagster test-clouds clean
unexport PYTHONDONTWRITEBYTECODE # the tests start hundreds of processes, each would compile the same modules again
export DAGSTER_HOME ?= $(CURDIR)/.demo/dagster_home
export EMBED_PIPELINES ?= pipelines/demo.yaml
export EMBED_LAKE ?= $(CURDIR)/.demo/lake
UI_PORT ?= 3000

help: ## show this
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-20s %s\n", $$1, $$2}'

setup: ## build both environments (.venv, .venv-worker)
	@scripts/setup_platform.sh
	@scripts/setup_worker.sh

demo: setup ## run the whole pipeline on real film reviews: no cloud, no GPU
	@.venv/bin/embed-assets demo

ui: setup ## open the Dagster UI on the demo's instance (http://127.0.0.1:3000; UI_PORT=… for another)
	@.venv/bin/python -m embed_assets.demo.home
	@echo "http://127.0.0.1:$(UI_PORT)"; .venv/bin/dagster dev -w workspace.yaml -h 127.0.0.1 -p $(UI_PORT)

setup-test:
	@scripts/setup_platform.sh dev
	@scripts/setup_worker.sh
	@.venv/bin/python -m embed_assets.demo.fetch

lint: ## ruff and mypy
	@scripts/setup_platform.sh dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

test: setup-test ## lint, types, unit, integration, e2e with real vLLM, Dagster, S3 server, SkyPilot on Slurm, Chromium
	@scripts/test_tools.sh
	@$(MAKE) --no-print-directory lint
	scripts/test.sh

test-fast: ## lint, and the unit tests in under a minute
	@$(MAKE) --no-print-directory lint
	.venv/bin/pytest -n 2 --dist worksteal -m "not (slow or vllm or e2e or slurm or ui or clouds)"

e2e-ui: setup-test ## drive the UI in headless Chromium
	@scripts/test_tools.sh chromium
	.venv/bin/pytest -m ui

e2e-slurm: setup-test ## SkyPilot managed jobs on a real Slurm: backfill, preemption, kill, cancel, outage
	@scripts/test_tools.sh
	EMBED_BENCH_RESULTS=bench/results EMBED_SCREENSHOTS=docs/images .venv/bin/pytest -m slurm -s

chaos: setup-test ## the long storms, damages and fuzzing (about half an hour); counts go to docs/guarantees.md
	@rm -f bench/results/chaos.json
	HYPOTHESIS_PROFILE=long EMBED_CHAOS_KILLS=200 EMBED_CHAOS_DAMAGES=200 EMBED_CHAOS_FUZZ=3000 \
	  EMBED_CHAOS_RESULTS=$(CURDIR)/bench/results/chaos.json .venv/bin/pytest -v -n 2 --dist worksteal --timeout=3600 tests/chaos tests/security \
	  tests/embed_worker/lake/test_store_faults.py tests/embed_worker/attempt/test_commit_stateful.py tests/embed_assets/drive/test_driver_stateful.py
	.venv/bin/python -m tests.kits.chaos.figures_page bench/results/chaos.json

bench: bench-control-plane bench-worker ## both benches, about half an hour; figures go to docs/performance.md

bench-control-plane: ## what it costs Dagster to drive 1,000 partitions in one run (about 15 minutes)
	@scripts/setup_platform.sh dev
	.venv/bin/python -m bench.control_plane

bench-worker: setup-test ## the worker against vLLM alone, others and the GEMM ceiling (about 15 minutes; BENCH=--quick: 4)
	@scripts/setup_bench.sh
	.venv/bin/python -m bench.worker $(BENCH)

bench-plan: demo ## what the plan says of the demo, against what the demo took
	@scripts/setup_platform.sh dev
	.venv/bin/python -m bench.plan

bench-ingest: ## reading and cutting reviews against Polars alone (about 15 minutes)
	@scripts/setup_platform.sh dev
	.venv/bin/python -m bench.ingest

bench-delta: ## what an update costs where little has changed, against a run from nothing (about 10 minutes)
	@scripts/setup_platform.sh dev
	.venv/bin/python -m bench.delta

bench-gpu: setup-test ## tokens/s and FLOPs utilisation on a GPU; says so where there is none
	.venv/bin/python -m bench.worker.gpu

gpu-check: setup-test ## all that only a GPU shows, in 15 minutes, unattended; docs/gpu.md says what
	.venv/bin/python -m bench.gpu_check

docs: ## regenerate the reference pages that come from the code
	.venv/bin/python -m embed_assets.spec.schema

locks: ## write the lock files anew: the newest releases that pyproject.toml allows
	@scripts/lock.sh

test-dagster: ## the tests of the graph and the Component on the lowest and the newest Dagster, the graph's on PostgreSQL too
	@scripts/test_dagster.sh

test-clouds: ## the lake on the protocols of Google's and Azure's stores, each with a pipeline from source to set
	@scripts/test_clouds.sh

clean: ## remove environments and the demo's data
	rm -rf .venv .venv-worker .venv-bench .venv-bench-ray .venv-uv .venv-dagster .venv-clouds .demo build dist
