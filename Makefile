# `make` alone prints this help.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= demo_out
# Threads that wait should sleep: on a busy machine spinning ones slow the tests down tenfold.
export OMP_WAIT_POLICY ?= PASSIVE
# -P keeps the checkout off sys.path, so that the installed package is what runs.
PY := $(BIN)/python -P

.PHONY: help
help: ## Print the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

$(VENV)/installed: pyproject.toml
	@echo "installing into $(VENV): a minute or two, several GB with PyTorch"
	@$(PYTHON) -m venv $(VENV)
	@{ $(BIN)/python -m pip install --upgrade pip && $(BIN)/python -m pip install -e '.[dev]'; } \
		> $(VENV)/install.log 2>&1 || { cat $(VENV)/install.log; exit 1; }
	@touch $@

.PHONY: install
install: $(VENV)/installed ## Create the environment in .venv and install rawisp into it

.PHONY: demo
demo: install ## Render the sample data and leave pictures to look at in demo_out/
	$(BIN)/rawisp enhance sample_data/night -o $(OUT) --annotations sample_data/night/annotations.json
	@$(BIN)/python -m sample_data.contact_sheet $(OUT)
	@echo "next: . $(BIN)/activate && rawisp --help"

.PHONY: test
test: install ## Run the tests
	$(PY) -m pytest -q -m "not soak"

.PHONY: test-oldest
test-oldest: ## Run the tests of ISPs and checkpoints with the oldest PyTorch that is supported
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install -q -e '.[dev]' torch==2.11.0 torchvision==0.26.0
	.venv-oldest/bin/python -P -m pytest -q tests/rawisp/isp tests/rawisp/checkpoint

.PHONY: test-interpreted
test-interpreted: install ## Run the kernels' tests uncompiled, and once with bounds checks
	NUMBA_DISABLE_JIT=1 $(PY) -m pytest -q tests/kernels
	NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$$(mktemp -d) $(PY) -m pytest -q tests/kernels

.PHONY: soak
soak: install ## Run the long tests: kills, mutated files
	$(PY) -m pytest -q -m soak

.PHONY: lint
lint: install ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: install ## Check types, strictly
	@rm -rf .typecheck && mkdir -p .typecheck/rawisp
	@for f in rawisp/*; do ln -s ../../$$f .typecheck/rawisp/; done
	@ln -s ../../cli .typecheck/rawisp/cli && ln -s ../../kernels .typecheck/rawisp/kernels
	$(BIN)/mypy

.PHONY: bench
bench: install ## Measure speed; writes benchmarks/results/*.json
	$(BIN)/python -m benchmarks.pack_kernel
	$(BIN)/python -m benchmarks.pack_folder
	$(BIN)/python -m benchmarks.start_up
	$(BIN)/python -m benchmarks.stages_kernel
	$(BIN)/python -m benchmarks.train_speed
	$(BIN)/python -m benchmarks.speed_table

.PHONY: results
results: install ## Train and measure for docs/results.md; COCO128=DIR DETECTOR=FastestDet.onnx; hours
	$(BIN)/python -m sample_data.twins results_work/twins --train 400 --val 40 --test 80
	$(BIN)/python -m benchmarks.results_streets results_work/twins results_work/streets
	$(BIN)/python -m benchmarks.results_cameras results_work/twins results_work/cameras
	$(BIN)/python -m benchmarks.results_coco $(COCO128) $(DETECTOR) results_work/coco
	$(BIN)/python -m benchmarks.results_table

.PHONY: sample-data
sample-data: install ## Write sample_data/night again, byte for byte
	$(BIN)/python -m sample_data.generate

.PHONY: shipped
shipped: install ## Write the shipped checkpoints without learned weights again
	$(BIN)/python -m benchmarks.make_shipped

.PHONY: pictures
pictures: install ## Make the README's pictures again
	$(BIN)/python -m docs.make_pictures

.PHONY: reference
reference: install ## Write docs/cli.md again, from the commands
	$(BIN)/python -m docs.make_cli_reference

.PHONY: golden
golden: install ## Write the reference facts of the sample data again; read the diff
	$(BIN)/python -m sample_data.golden

.PHONY: clean
clean: ## Remove what was made here, the environment included
	rm -rf $(VENV) .venv-oldest results_work $(OUT) .typecheck .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
	find . -name '*.nb[ic]' -delete
