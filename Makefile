# SPDX-License-Identifier: GPL-2.0-only
# `make` or `make help` lists the targets. Everything is built in $(VENV) and $(BUILD); cmake, ninja
# and clang-format come from PyPI, so only Python 3.11+, a C++20 compiler and git are needed.

PYTHON ?= python3
VENV ?= .venv
BUILD ?= build
JOBS ?= 2
DEMO_TRACE ?= traces/corpus/redis.parquet

BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check -q
CMAKE := $(BIN)/cmake -S . -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja
SOURCES := $(shell find src traces replay rmap_models testing analysis batch cli templates \
             \( -name '*.py' -o -name '*.pyi' -o -name 'py.typed' -o -name '*.[ch]pp' -o -name '*.[ch]' \) 2>/dev/null)
CXX_SOURCES := $(shell find traces replay rmap_models templates tests benchmarks \
                 \( -name '*.[ch]pp' -o -name '*.[ch]' \) 2>/dev/null)
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(JOBS)

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 20

.PHONY: demo
demo: $(VENV)/installed  ## replay a bundled trace under anon_vma and cow, and print what it cost
	$(BIN)/rmapreplay run $(DEMO_TRACE) --model anon_vma --model cow

.PHONY: test
test: lint native-test pytest  ## lint, native tests under ASan and UBSan, and the Python suite

.PHONY: pytest
pytest: $(VENV)/dev-tools $(VENV)/installed capture-tools
	$(BIN)/python -m pytest -q -n $(JOBS) $(PYTEST_ARGS)

.PHONY: lint
lint: $(VENV)/dev-tools $(VENV)/installed  ## ruff, mypy --strict and clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd $(VENV) && $(abspath $(BIN))/mypy --config-file $(abspath pyproject.toml)
	cd $(VENV) && MYPYPATH=$(abspath tests/kernel) $(abspath $(BIN))/mypy \
	  --config-file $(abspath pyproject.toml) $(wildcard $(abspath tests/kernel)/*.py)
	$(BIN)/clang-format --dry-run -Werror $(CXX_SOURCES)

.PHONY: format
format: $(VENV)/dev-tools  ## rewrite the sources as lint wants them
	$(BIN)/ruff check --fix-only -q .
	$(BIN)/ruff format -q .
	$(BIN)/clang-format -i $(CXX_SOURCES)

.PHONY: native-test
native-test: $(VENV)/build-tools  ## the core's own tests under ASan and UBSan, without Python
	@$(CMAKE) -B $(BUILD)/native-tests -DRMAPREPLAY_NATIVE_TESTS=ON >/dev/null
	@$(BIN)/cmake --build $(BUILD)/native-tests -- --quiet
	$(BUILD)/native-tests/native_tests

.PHONY: fuzz
fuzz: export RMAPREPLAY_FUZZ_SEEDS = $(or $(SEEDS),20)
fuzz: native-test $(VENV)/dev-tools $(VENV)/installed  ## many more random traces through every model; SEEDS=n times as many as in test
	$(BUILD)/native-tests/native_tests random
	$(BIN)/python -m pytest -q -n $(JOBS) tests/property tests/broken_models \
	  tests/conformance/test_check_model.py

.PHONY: frames-equal
frames-equal: export RMAPREPLAY_ALL_TRACES = 1
frames-equal: $(VENV)/dev-tools $(VENV)/installed  ## both forms of anon_vma and cow over all bundled traces and recordings
	$(BIN)/python -m pytest -q tests/conformance/test_frames.py

.PHONY: corpus
corpus: $(VENV)/installed capture-tools  ## capture the workloads of traces/workloads, or WORKLOADS="a b", into OUT=dir; ROUNDS=n to time
	$(BIN)/python traces/corpus/collect.py $(or $(OUT),$(BUILD)/corpus) $(WORKLOADS) --rounds $(or $(ROUNDS),1)

.PHONY: corpus-table
corpus-table: $(VENV)/installed  ## write the tables in docs/corpus.md from the cards in OUT=dir
	$(BIN)/python docs/corpus_table.py $(or $(OUT),$(BUILD)/corpus)

.PHONY: corpus-bundle
corpus-bundle: $(VENV)/installed  ## bundle NAMES="a b" of the captures in OUT=dir
	$(BIN)/python traces/corpus/bundle.py $(or $(OUT),$(BUILD)/corpus) $(or $(NAMES),$(error say which: NAMES="a b"))

.PHONY: corpus-rebuild
corpus-rebuild: $(VENV)/installed  ## make the bundled traces again from the raw captures in RAW=dir
	$(BIN)/python traces/corpus/build.py $(or $(RAW),$(error say where the raw captures are: RAW=dir))

.PHONY: report
report: $(VENV)/dev-tools $(VENV)/installed  ## the bundled corpus under every model, as a page: $(BUILD)/report.html
	$(BIN)/rmapreplay batch traces/corpus -o $(BUILD)/report --force -m anon_vma,cow,cow-poc,pte_chain \
	  -m anonmm,anon_vma_global,anon_vma_lazy || [ $$? = 1 ]
	$(BIN)/rmapreplay report $(BUILD)/report -o $(BUILD)/report.html --force

.PHONY: fidelity
fidelity: $(VENV)/installed  ## check the bundled traces and those in TRACES; the table in docs/fidelity.md
	$(BIN)/python docs/fidelity_table.py $(filter-out %.truth.parquet, \
	  $(wildcard traces/corpus/*.parquet tests/data/kernel-truth/*/*.parquet)) $(TRACES)

.PHONY: check-model-table
check-model-table: $(VENV)/installed  ## check every built-in model; the table in docs/check-model.md
	$(BIN)/python docs/check_model_table.py

.PHONY: cost-models
cost-models: $(VENV)/build-tools  ## measure the weights of the cost models warm and cold here, and write them
	@$(CMAKE) -B $(BUILD)/bench -DRMAPREPLAY_BENCHMARKS=ON >/dev/null
	@$(BIN)/cmake --build $(BUILD)/bench -- --quiet
	@$(BIN)/python benchmarks/cost_models.py $(BUILD)/bench/weights analysis/cost_models

.PHONY: docs
docs: $(VENV)/docs-tools $(VENV)/installed  ## the documentation as a site, in build/docs; warnings are errors
	$(BIN)/sphinx-build -q -W --keep-going -n -d $(BUILD)/docs-trees docs $(BUILD)/docs
	@echo "$(BUILD)/docs/index.html"

.PHONY: docs-written
docs-written: $(VENV)/dev-tools $(VENV)/installed  ## write what the docs say of the command line and of its output anew
	$(BIN)/python docs/cli_reference.py
	$(BIN)/python docs/console.py docs/run.md docs/tutorial.md

.PHONY: kernel-truth-bundle
kernel-truth-bundle: $(VENV)/installed  ## keep the recordings in OUT=dir as the tests' data
	$(BIN)/python tests/kernel/bundle.py $(or $(OUT),build/kernel/out)

.PHONY: bench
bench: $(VENV)/build-tools $(VENV)/installed  ## time the core: medians, ratios, instructions per event; and perf.data to Parquet
	@$(CMAKE) -B $(BUILD)/bench -DRMAPREPLAY_BENCHMARKS=ON >/dev/null
	@$(BIN)/cmake --build $(BUILD)/bench -- --quiet
	@$(BIN)/python benchmarks/run.py $(BUILD)/bench/bench $(ROUNDS)
	@$(BIN)/python benchmarks/python_model.py $(ROUNDS)
	@$(BIN)/python benchmarks/c_model.py $(ROUNDS)
	@$(BIN)/python benchmarks/capture.py $(ROUNDS)

.PHONY: bench-frames
bench-frames: $(VENV)/installed  ## time both forms of anon_vma and cow with 10^5 to 10^7 walks; TRACE=file
	@$(BIN)/python benchmarks/frames.py $(or $(TRACE),traces/corpus/redis.parquet) $(or $(ROUNDS),1)

.PHONY: kernel-truth
kernel-truth: $(VENV)/installed kernel-tools  ## boot a kernel in QEMU, record workloads, check the model against them
	@$(BIN)/python tests/kernel $(KERNEL_TRUTH)

.PHONY: kernel-truth-smoke
kernel-truth-smoke: $(VENV)/installed kernel-tools  ## the same with two small workloads; skips what cannot be had
	@$(BIN)/python tests/kernel --smoke $(KERNEL_TRUTH)

.PHONY: kernel-capture
kernel-capture: $(VENV)/installed kernel-tools  ## boot a kernel in QEMU, capture in it by its probes, check the trace
	@$(BIN)/python tests/kernel/capture.py $(KERNEL_CAPTURE)

# KERNEL=bzImage MODULES=dir, or SUITE=name of Debian's; WORKLOADS=a,b; COMMAND='cmd ..'; OUT=dir;
# ARGS=.. for all else (ARGS=--help).
KERNEL_TRUTH = $(if $(KERNEL),--kernel $(KERNEL)) $(if $(MODULES),--modules $(MODULES)) \
               $(if $(SUITE),--suite $(SUITE)) $(if $(WORKLOADS),--workloads $(WORKLOADS)) \
               $(if $(COMMAND),--command '$(COMMAND)') $(if $(OUT),--out $(OUT)) $(ARGS)
KERNEL_CAPTURE = $(if $(KERNEL),--kernel $(KERNEL)) $(if $(MODULES),--modules $(MODULES)) \
                 $(if $(SUITE),--suite $(SUITE)) $(if $(OUT),--out $(OUT)) $(ARGS)

# What Debian packages the machine lacks, where they can be installed; else what needs them says so.
# $(call debian,COMMANDS,PACKAGES)
debian = @for command in $(1); do command -v $$command >/dev/null || missing=yes; done; \
  [ -z "$$missing" ] || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
  { echo "installing $(2)"; \
    { apt-get -qq update && apt-get -qq install -y --no-install-recommends $(2); } >/dev/null 2>&1 || \
    echo "$(2) could not be installed"; }

.PHONY: kernel-tools
kernel-tools:
	$(call debian,qemu-system-x86_64,qemu-system-x86)

.PHONY: capture-tools
capture-tools:
	$(call debian,perf strace,linux-perf strace)

.PHONY: browser
browser:
	$(call debian,chromium,chromium)

.PHONY: clean
clean:  ## remove everything that was built
	rm -rf $(VENV) $(BUILD)

# Lists of requirements come from pyproject.toml: `$(call requirements,build-system.requires)`.
requirements = $(BIN)/python -c 'import functools, tomllib; \
    table = tomllib.load(open("pyproject.toml", "rb")); \
    print(*functools.reduce(dict.__getitem__, "$(1)".split("."), table), sep="\n")'

$(VENV)/build-tools: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing build tools into $(VENV)"
	@$(call requirements,build-system.requires) > $(VENV)/requirements.txt
	@$(PIP) install -r $(VENV)/requirements.txt 'cmake>=3.26' ninja
	@touch $@

$(VENV)/dev-tools: $(VENV)/build-tools
	@echo "installing test and lint tools into $(VENV)"
	@$(call requirements,project.optional-dependencies.dev) > $(VENV)/requirements.txt
	@$(PIP) install -r $(VENV)/requirements.txt
	@touch $@

$(VENV)/docs-tools: $(VENV)/build-tools
	@echo "installing Sphinx into $(VENV)"
	@$(call requirements,project.optional-dependencies.docs) > $(VENV)/requirements.txt
	@$(PIP) install -r $(VENV)/requirements.txt
	@touch $@

# A regular install, not an editable one: mypy cannot follow the editable import hook. The build
# directory stays, so only what changed is compiled.
$(VENV)/installed: $(VENV)/build-tools $(SOURCES) CMakeLists.txt
	@echo "building rmapreplay"
	@$(PIP) install --no-build-isolation .
	@touch $@
