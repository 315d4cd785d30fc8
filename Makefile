# blip2-serve: `make demo` serves the small checkpoint that ships with the project, `make test` tests everything.

PYTHON   ?= $(shell command -v python3.11 || command -v python3)
PORT     ?= 3000
MODEL    ?= Salesforce/blip2-opt-2.7b
PIP_ARGS ?=
BACKEND  ?= docker
BIN      := .venv/bin

export BENTOML_DO_NOT_TRACK = True

.PHONY: help install demo serve lint structure test test-clients test-slow openapi bento image
.PHONY: train-demo train-demo-t5 train-demo-itm eval-demo eval-demo-t5 eval-demo-itm bench-retrieval
.PHONY: screenshots measure-load measure-batching measure-choosing measure-hostile fuzz
.PHONY: measure-grounding measure-quantization soak overload chaos bench bench-full bench-plot tune-peers bench-stages bench-gpu clean

help:
	@echo "make demo    serve the demo checkpoint on http://localhost:$(PORT) (no GPU, nothing to download)"
	@echo "make serve   serve MODEL=$(MODEL)"
	@echo "make test    lint, types and tests"
	@echo "make bento   pack it into a Bento"
	@echo "make image   make an OCI image of the latest Bento (needs Docker; BACKEND=podman, buildah, ...)"
	@echo "make bench   compare with other ways to serve BLIP-2 (25 minutes on two cores; see benchmarks/README.md)"
	@echo "make install set up .venv (PIP_ARGS= reaches pip)"

# One stamp for everything: .venv is made anew only when a requirements file changes.
.venv/installed: requirements.txt requirements-ui.txt requirements-quantize.txt requirements-mcp.txt requirements-adapter.txt requirements-heif.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r requirements-dev.txt
	touch $@

install: .venv/installed

demo: install
	@PORT=$(PORT) scripts/serve-demo

serve: install
	BLIP2_MODEL=$(MODEL) $(BIN)/bentoml serve service:Blip2 --port $(PORT)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Sizes of functions, files and folders, import cycles, and what a request passes; ROOT= measures another checkout.
structure: install
	$(BIN)/python -m scripts.measure_structure $(if $(ROOT),--root $(ROOT))

# Tests in process run two at a time, 1.7 times as fast on two cores; those that start servers or look at the clock do not.
IN_PROCESS := tests/api tests/engine tests/images tests/model tests/tasks tests/training

test: lint
	$(BIN)/python -m pytest --durations=10 -m "not slow" -n 2 --dist loadscope $(IN_PROCESS)
	$(BIN)/python -m pytest --durations=10 -m "not slow" $(addprefix --ignore=,$(IN_PROCESS))

# Real clients, each family in a pinned environment of its own; FAMILIES="litellm openai" tries some of them.
test-clients: install
	PYTHONPATH=tests $(BIN)/python -m support.clients $(FAMILIES)

# Writes docs/openapi.json; a test compares it with what the server answers.
openapi: install
	$(BIN)/python -m scripts.write_openapi

bento: install
	$(BIN)/bentoml build

image: bento
	$(BIN)/bentoml containerize blip2:latest --backend $(BACKEND)

# Needs Debian's chromium, nginx-light, buildah, debootstrap, bubblewrap, nodejs and npm; installs them where it may.
test-slow: install
	scripts/install-debian-packages
	$(BIN)/python -m pytest -m slow --durations=10

# docs/screenshots/, with Debian's chromium.
screenshots: install
	PYTHONPATH=tests $(BIN)/python -m support.browser.screenshots

# Needs 8 GB of disk and 16 GB of memory, and minutes.
measure-load: install
	$(BIN)/python -m benchmarks.run.loading_memory

# Hours on two cores; continues where it was stopped.
train-demo: install
	$(BIN)/python -m training.train --model demo

train-demo-t5: install
	$(BIN)/python -m training.train --model demo-t5

train-demo-itm: install
	$(BIN)/python -m training.retrieval.train

eval-demo: install
	$(BIN)/python -m training.evaluate --model demo

eval-demo-t5: install
	$(BIN)/python -m training.evaluate --model demo-t5

eval-demo-itm: install
	$(BIN)/python -m training.retrieval.evaluate

# Long runs with dated results in benchmarks/results/.
soak: install
	$(BIN)/python -m benchmarks.run.reliability.soak

overload: install
	$(BIN)/python -m benchmarks.run.reliability.overload

chaos: install
	$(BIN)/python -m benchmarks.run.reliability.chaos

# What a good client notices of others' attacks; ARGS= reaches it: make measure-hostile ARGS="documents --seconds 10".
measure-hostile: install
	$(BIN)/python -m benchmarks.run.reliability.hostile $(ARGS)

# Damaged pictures for 15 minutes.
fuzz: install
	$(BIN)/python -m benchmarks.run.reliability.fuzz

measure-batching: install
	$(BIN)/python -m benchmarks.run.batching

measure-choosing: install
	$(BIN)/python -m benchmarks.run.choosing

measure-grounding: install
	$(BIN)/python -m benchmarks.run.grounding

measure-quantization: install
	$(BIN)/python -m benchmarks.run.quantization

bench-stages: install
	$(BIN)/python -m benchmarks.run.cpu_stages

# Needs a CUDA device.
bench-gpu: install
	$(BIN)/python -m benchmarks.run.gpu --output

# What it takes is in benchmarks/README.md; ARGS= reaches it: make bench ARGS="--checkpoints demo".
bench: install
	$(BIN)/python -m benchmarks.run.bench $(ARGS)
	$(BIN)/python -m benchmarks.run.retrieval

bench-retrieval: install
	$(BIN)/python -m benchmarks.run.retrieval

bench-full: install
	$(BIN)/python -m benchmarks.run.bench --full $(ARGS)

bench-plot: install
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r requirements-bench.txt
	$(BIN)/python -m benchmarks.run.plot.throughput
	$(BIN)/python -m benchmarks.run.plot.grounding

tune-peers: install
	$(BIN)/python -m benchmarks.run.tune_peers $(ARGS)

clean:
	rm -rf .venv .venv-clients .mypy_cache .ruff_cache .pytest_cache
