SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check format bench bench-broken bench-baselines bench-explain bench-segments bench-speed \
	bench-relabel bench-temporal bench-regions bench-find bench-live bench-predict bench-processes bench-real \
	bench-fairness bench-onnx bench-training ablation wheel docs

PYTHON ?= python3
BIN := .venv/bin
# The folders that become the package. Their times change when a file is added or removed.
FOLDERS := $(shell find package modeling_tgdfer processing training model_card -type d -not -name __pycache__)

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Everything is installed once, and again whenever pyproject.toml changes.
.venv/dependencies: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[dev,docs]" --config-settings editable_mode=strict
	@touch $@

# The strict mode links every file into one tree below build/, which editors and type checkers can follow. New files
# are linked when the package is installed again, which takes two seconds.
.venv/installed: .venv/dependencies $(FOLDERS)
	$(BIN)/python -m pip install --quiet --editable . --no-deps --no-build-isolation --config-settings editable_mode=strict
	@touch $@

demo: .venv/installed  ## Render faces, train, evaluate, predict and prepare a model for the Hub in runs/demo (a few minutes on two cores)
	$(BIN)/tgdfer demo

# Two processes of one thread each: more threads take more processor time for the same work. Tests of a file stay in
# one process, so that they share their fixtures. `time` reports the processor time.
PYTEST := time OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test: .venv/installed  ## Run the tests (12 minutes of processor time at most, no network)
	$(PYTEST) -m "not slow"

test-slow: .venv/installed  ## Run the tests that are slow by nature (about 35 minutes of processor time)
	$(PYTEST) -m slow

check: .venv/installed  ## Check format, lint, types and imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p tgdfer -p benchmarks -p recipes
	$(BIN)/lint-imports

docs: .venv/installed  ## Build the documentation into site/; a dead link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

format: .venv/installed  ## Format the code and fix what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/installed bench-broken  ## Measure: the renderer, decoding, resizing, imports, faces, broken files
	$(BIN)/python -m benchmarks.rendering
	$(BIN)/python -m benchmarks.decoding
	$(BIN)/python -m benchmarks.overhead --out docs/results/overhead.md
	$(BIN)/python -m benchmarks.faces

bench-broken: .venv/installed  ## Predict hundreds of broken and odd videos: each gives a prediction or one sentence
	$(BIN)/python -m benchmarks.broken_files

# The reports are written to docs/results/, and their figures to benchmarks/results/.
# An interrupted run resumes. Runs on real clips as well if TGDFER_REALCLIPS names a folder of them.
bench-baselines: .venv/installed  ## Compare TG-DFER with simple methods (stops after 50 minutes; run it again to resume)
	$(BIN)/python -m benchmarks.baselines run
	$(BIN)/python -m benchmarks.baselines report

# An interrupted run resumes. Runs on a GPU as well if there is one. Nothing else should run on the machine meanwhile.
bench-speed: .venv/installed  ## Compare time and memory of the network with its CLIP (90 minutes)
	$(BIN)/python -m benchmarks.speed

# Measures a trained model as well if TGDFER_TRAINED names one, such as tgdfer-tiny.
bench-explain: .venv/installed  ## Measure whether explanations are true and relevance is faithful
	$(BIN)/python -m benchmarks.explanation

# Measures on photographs as well if TGDFER_FERPLUS names a file of them.
bench-relabel: .venv/installed  ## Measure the recall of an emotion that the model knows only by its descriptions
	$(BIN)/python -m benchmarks.relabelling
	$(if $(TGDFER_FERPLUS),$(BIN)/python -m benchmarks.relabelling --photographs '$(TGDFER_FERPLUS)')

# An interrupted run resumes. TGDFER_FERPLUS names a file of photographs and TGDFER_REALCLIPS a folder of clips;
# TGDFER_FACE_MODEL may name the file of the face detector, and TGDFER_TRAINED a trained model instead of tgdfer-tiny.
bench-real: .venv/installed  ## Measure on real faces and compare with fer (stops after 50 minutes; run it again to resume)
	$(BIN)/python -m benchmarks.real_faces run
	$(BIN)/python -m benchmarks.real_faces report

# An interrupted run resumes. Installs fer and TensorFlow in runs/prediction (3 GB).
# TGDFER_FACE_MODEL names the file of YuNet; without it MTCNN alone is measured.
bench-predict: .venv/installed  ## Compare time and memory of tgdfer predict with fer (30 minutes)
	$(BIN)/python -m benchmarks.prediction

# An interrupted run resumes. Nothing else should run on the machine meanwhile.
bench-processes: .venv/installed  ## Compare training in two processes with one (45 minutes on two cores)
	$(BIN)/python -m benchmarks.processes

# An interrupted run resumes. TGDFER_REALCLIPS names a folder of clips and TGDFER_FERPLUS a file of photographs.
bench-training: .venv/installed  ## Measure what the options of training bring (stops after 50 minutes; run it again to resume)
	$(BIN)/python -m benchmarks.training run
	$(BIN)/python -m benchmarks.training report

# Measures tgdfer-tiny, or the model that TGDFER_TRAINED names.
bench-fairness: .venv/installed  ## Measure recall and calibration on rendered faces that differ in one respect
	$(BIN)/python -m benchmarks.fairness --out docs/results/fairness.md

# Compares labels on real clips as well if TGDFER_REALCLIPS names a folder of them.
bench-onnx: .venv/installed  ## Compare ONNX exports with PyTorch in speed, size and labels (10 minutes)
	$(BIN)/python -m benchmarks.onnx

# Needs playwright and Chromium. Measures a real recording as well if TGDFER_RECORDING names one. TGDFER_FACE_MODEL names
# the file of YuNet; without it MTCNN alone is measured. Nothing else should run on the machine meanwhile.
bench-live: .venv/installed  ## Measure frames per second, latency and memory of the live page (40 minutes)
	$(BIN)/python -m benchmarks.live pace
	$(BIN)/python -m benchmarks.live memory

# An interrupted run resumes. Runs on real clips, on given features and on bags of photographs as well if
# TGDFER_REALCLIPS, TGDFER_FEATURES and TGDFER_FERPLUS name them. TGDFER_FACE_MODEL may name the file of the face
# detector.
ablation: .venv/installed  ## Measure what every part of the network contributes (stops after 50 minutes; run it again to resume)
	$(BIN)/python -m benchmarks.ablation run
	$(BIN)/python -m benchmarks.ablation report

# An interrupted run resumes.
bench-temporal: .venv/installed  ## Measure on pairs of clips that differ only in the order of their frames (an hour)
	$(BIN)/python -m benchmarks.temporal run
	$(BIN)/python -m benchmarks.temporal report

bench-regions: .venv/installed  ## Measure whether a model points to where a rendered face has moved (15 minutes)
	$(BIN)/python -m benchmarks.regions

# Measures on photographs as well if TGDFER_FERPLUS names a file of them. TGDFER_FACE_MODEL may name the file of the
# face detector.
bench-find: .venv/installed  ## Measure how well phrases find moments in rendered videos (10 minutes)
	$(BIN)/python -m benchmarks.find

bench-segments: .venv/installed  ## Find segments of emotion in long rendered videos
	$(BIN)/python -m benchmarks.long_videos

# The wheel is tried in an empty environment, in another folder.
wheel: .venv/installed  ## Build a wheel into dist/ and run the demo from it in an empty environment
	rm -rf dist build/lib build/bdist.*
	$(BIN)/python -m build --wheel
	set -e; empty=$$(mktemp -d); trap 'rm -rf "$$empty"' EXIT; \
	$(PYTHON) -m venv $$empty/venv; \
	$$empty/venv/bin/python -m pip install --quiet dist/*.whl; \
	cd $$empty; venv/bin/tgdfer demo --clips 4 --epochs 2 --lora-epochs 1 --output demo
