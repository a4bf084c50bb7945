# A thin front on CMake. `make` leaves the program at build/voco.
BUILD ?= build
PREFIX ?= /usr/local
DEMO ?= demo

.PHONY: all setup demo check-guide test test-asan test-gpu fuzz bench bench-precision bench-data interop install format lint clean

all: setup
	@cmake --preset release -B $(BUILD) -G Ninja -DCMAKE_INSTALL_PREFIX=$(PREFIX) $(CMAKE_FLAGS) >/dev/null
	@cmake --build $(BUILD)

setup:
	@scripts/setup

# From nothing to a pre-trained encoder: phantoms, training, evaluation on volumes it has not seen.
demo: all
	@scripts/demo $(BUILD)/voco $(DEMO)

# Two tests at a time: many compute with one thread. Waiting threads sleep, so that they can share the cores.
test: CMAKE_FLAGS += -DVOCO_WERROR=ON
test: all
	@OMP_WAIT_POLICY=passive ctest --test-dir $(BUILD) --output-on-failure -j2

# The same tests under AddressSanitizer and UndefinedBehaviorSanitizer. Slower by far, so what tells of numbers only and goes
# through code that others go through as well is left to `make test`: golden sets, float64, measurements, kills, numbers of
# threads, encoding, conversion and ranks at the command line, jobs of more than two ranks and, on the host, of two.
# And single tests that say so themselves (tests/sanitizers.h).
test-asan: setup
	@cmake --preset asan -G Ninja >/dev/null
	@cmake --build build-asan
	@OMP_WAIT_POLICY=passive ctest --test-dir build-asan --output-on-failure -j2 \
	    -E '^(golden/.*|model/test_encoder_f64|cuda_on_host/test_encoder_on_host|cli/test_(bench|kill_and_resume|threads|encode|convert|ranks)|train/test_shared_step(_by_host)?_2_ranks|.*_[34]_ranks)$$'

# What needs a GPU, on a machine that needs to have nothing else of voco's: see scripts/test-gpu. PART=conv3d: only such operations.
test-gpu:
	@scripts/test-gpu build-gpu $(PART) || [ $$? -eq 77 ]

# libFuzzer under the sanitizers, for as long as one likes: make fuzz [TARGET=fuzz_nifti] [SECONDS=600]. (`make test` runs
# every target for 3 seconds without it.)
SECONDS ?= 60
fuzz:
	@scripts/setup --fuzz
	@scripts/fuzz $(SECONDS) $(TARGET)

# Comparisons, in the Python environment VENV, which is made where there is none. Results: bench/results.
VENV ?= .venv

# A training step beside PyTorch; QUICK=1: a few minutes, RESUME=1: goes on where the last one was stopped, ONLY=precision: what
# bf16 changes, and nothing else.
bench: all
	@scripts/bench $(BUILD) $(VENV) $(if $(QUICK),--quick) $(if $(RESUME),--resume) $(if $(ONLY),--only $(ONLY))

# Training in bf16 beside training in float32, for as many seeds as tell: two times the demo for each; SEEDS=2: for two of them,
# STEPS=200. Goes on where it was stopped.
bench-precision: all
	@scripts/compare-precisions $(BUILD)/voco $(BUILD)/bench-precision $(if $(STEPS),--steps $(STEPS)) $(if $(SEEDS),--seeds $(SEEDS))

# The data engine beside MONAI; QUICK=1: two minutes.
bench-data: all
	@scripts/bench-data $(BUILD) $(VENV) $(if $(QUICK),--quick)

# PyTorch, MONAI (of two generations), zarr and TensorBoard on the files of voco, and voco on theirs; QUICK=1: without the
# large networks.
interop: all
	@scripts/interop $(BUILD) $(VENV) $(if $(QUICK),--quick)

# Runs the commands of docs/guide.md in build/guide, those in Python where VENV is there, in about a quarter of an hour.
check-guide: all
	@rm -rf $(BUILD)/guide
	@scripts/check-guide $(BUILD)/voco $(BUILD)/guide $(wildcard $(VENV)/bin/python)

install: all
	@cmake --install $(BUILD)

format:
	@scripts/setup --lint
	@git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.cpp' | xargs clang-format -i

lint: all
	@scripts/setup --lint
	@git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.cpp' | xargs clang-format --dry-run -Werror
	@scripts/lint $(BUILD)

clean:
	@rm -rf $(BUILD) build-asan build-debug build-fuzz build-gpu
