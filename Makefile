# make demo | test | test-vllm | test-lmms | test-pocket | test-vocabulary | test-oldest | lint | miniature | clean
VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PYTHON ?= python3

# What depends on versions: the families, building and loading models, training.
OLDEST_TESTS := tests/conformance tests/backbones tests/checkpoints tests/training/test_run.py

.PHONY: test-system demo test test-vllm test-lmms test-pocket test-vocabulary test-oldest conformance lint site bench miniature install system recordings clean

demo: $(STAMP) system recordings   ## install, ask a small real model about recordings, run the whole method on the small world
	$(VENV)/bin/coat demo

test: $(STAMP) system test-system   ## install, then run the tests
	$(PY) -m pytest -n auto --maxprocesses 4 --dist worksteal --durations 12

test-vllm: $(STAMP)     ## build vLLM's CPU environment and compare it with transformers
	sh scripts/vllm_env.sh $(VENV)-vllm
	$(PY) -m pytest -m vllm --vllm=$(VENV)-vllm/bin/python -n 2 tests/vllm/test_equality.py
	$(PY) -m pytest -m vllm --vllm=$(VENV)-vllm/bin/python tests/vllm/test_server.py tests/vllm/test_evaluation.py

test-lmms: $(STAMP)     ## build lmms-eval's environment, run it on our model and tasks, compare scores
	sh scripts/lmms_env.sh $(VENV)-lmms
	$(PY) -m pytest -m lmms --lmms=$(VENV)-lmms/bin/python

test-pocket: $(STAMP)   ## fetch pocket's parts, put them together, and compare them with what they were made for
	$(PY) -m pytest -m pocket tests/pocket

test-vocabulary: $(STAMP)   ## take Qwen's, Gemma's and Mistral's own tokenizers, and hold prompts to their templates
	$(PY) -m pytest -m vocabulary tests/vocabulary

test-oldest: $(STAMP)   ## with the oldest transformers, PEFT and accelerate that are allowed
	sh scripts/oldest_env.sh $(VENV)-oldest $(VENV)
	$(VENV)-oldest/bin/python -m pytest -q -n auto --maxprocesses 4 -m "not slow and not experts" -k "not -hub" $(OLDEST_TESTS)

conformance: $(STAMP)   ## only the tests that run over every registered backbone and expert
	$(PY) -m pytest -m conformance

lint: $(STAMP)          ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

site: $(STAMP)          ## the documentation as a site, in site/; a link or a name that leads nowhere ends it
	$(PY) -m pip install --quiet --editable ".[docs]"
	$(PY) -m mkdocs build --strict --quiet

bench: $(STAMP)         ## where a training step's time goes
	$(PY) benchmarks/train_step.py

miniature: $(STAMP) system   ## train the shipped miniature anew
	$(PY) scripts/make_miniature.py

install: $(STAMP)

# torch first and by pip: a plain "torch" asked for later would bring gigabytes of CUDA to a CPU machine.
# basic-pitch without its dependencies: they hold TensorFlow, and only its weights are used.
$(STAMP): pyproject.toml
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet torch==2.13.0 || $(PY) -m pip install --quiet "torch>=2.11"
	$(PY) -m pip install --quiet --no-deps basic-pitch==0.4.0
	$(PY) -m pip install --quiet --editable ".[pitch,miniature,dev]"
	touch $(STAMP)

# espeak-ng, fluidsynth and a soundfont: installed where we may, named where we may not.
system:
	@sh scripts/system_packages.sh

# What the small real model is asked about.
recordings:
	@sh scripts/recordings.sh

# Chromium drives the live page; ffmpeg, sox and lame write the files that decoding is held against. Without them those
# tests are skipped by name.
test-system:
	@sh scripts/test_packages.sh

clean:
	rm -rf $(VENV) $(VENV)-vllm $(VENV)-lmms $(VENV)-oldest build dist site src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
