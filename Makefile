# Tidegate's commands. `make` alone lists them.
#
# Each sets up .venv by itself and needs only make, a python3 with venv, and a package registry.
# `make run` installs what a gateway runs with, every other target also what developing needs.
# What is installed is pinned by constraints.txt; a stamp makes a change of either file install again.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.stamp
RUNS   := $(VENV)/.stamp-run
SITE   := $(VENV)/.stamp-site
ARGS   ?=
SECONDS ?= 60
CODE   := service operator tests dashboards release website $(wildcard bench examples)
PIP    := $(BIN)/python -m pip --disable-pip-version-check --require-virtualenv

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-rest test-all test-matrices test-compiled test-pauses check check-format check-lint check-types check-layers format bench drain-demo fuzz constraints clean python-is-new-enough
.PHONY: check-release release-dry-run hashes audit site check-site
.PHONY: dashboards dashboards-test js js-test page
.PHONY: chart chart-check cluster-up cluster-down cluster-load-image cluster-test

help:
	@echo 'Tidegate: browsers watch long-running operations live, from a Redis Stream.'
	@echo
	@echo '  make run          two gateway replicas, an embedded server and a demo backend; Ctrl-C ends all'
	@echo '  make test         each behaviour once, on real servers, in parallel   ARGS="tests/core -k ring -x" goes to pytest'
	@echo '  make test-rest    what that leaves out: both servers, both Helms, long properties, the boards, a cluster'
	@echo '  make test-all     both'
	@echo '  make test-compiled  the tests of the engine, with the wheel in which it is compiled (a C compiler)'
	@echo '  make test-pauses  the tests while their processes are stopped at random moments   ARGS goes to tests.pauses'
	@echo '  make check        what must be clean before a commit: format, lint, types, layers, versions, workflows, site'
	@echo '  make format       let ruff rewrite the code'
	@echo '  make bench        measure the gateway beside a naive one   ARGS="--quick" goes to the bench'
	@echo '  make drain-demo   restart three replicas under 3,000 viewers: what it does to them, and to the others'
	@echo '  make js           build the browser client (clients/js; needs Node 20 and npm); make js-test tests it'
	@echo '  make page         build it into the page of `make run`, which has it committed'
	@echo '  make dashboards   write the Grafana boards from their source; make dashboards-test proves them and the rules'
	@echo '  make site         build the documentation as a site, into build/site   ARGS=serve shows it while it is written'
	@echo '  make chart        make the README, schema and files of the chart; make chart-check looks whether they are current'
	@echo '  make cluster-up   start a real Kubernetes (Linux, root, Go; NODES=3); make cluster-down ends it'
	@echo '  make cluster-load-image  build the image and load it into that one'
	@echo '  make cluster-test install the chart on a real cluster, and hurt it   ARGS=--all: with the long cases'
	@echo '  make fuzz         what reads bytes from outside, under Atheris if it is installed   SECONDS=60 for each'
	@echo '  make constraints  take the newest releases that pyproject.toml allows, and pin them'
	@echo '  make hashes       make requirements/ again: what the image and a release are built with, with hashes'
	@echo '  make audit        look for known vulnerabilities of what the image has'
	@echo '  make release-dry-run  build, install and start everything that a release publishes   ARGS="--required"'
	@echo '  make clean        remove .venv, caches and built files'
	@echo
	@echo 'The first one sets up .venv with $(PYTHON) (PYTHON=python3.13 takes another).'

run: $(RUNS)
	@$(BIN)/tidegate run $(ARGS)

# The tiers: tests/conftest.py. Boards and cluster are one performance each, and go apart from the rest.
TESTS := $(BIN)/python -m pytest -n auto --dist loadgroup --ignore=tests/dashboards --ignore=tests/cluster
test: $(STAMP)
	$(TESTS) --tier quick $(ARGS)

# The same with the wheel that images have, whose engine is compiled (hatch_build.py): its folders of
# the first tier. It wants a C compiler, and is installed beside .venv.
COMPILED := build/compiled
ENGINE_TESTS := tests/core tests/model tests/gateway tests/redis tests/web tests/faults
CAN_COMPILE = command -v $${CC:-cc} >/dev/null && test -f "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h"
test-compiled: $(STAMP)
	@if ! $(CAN_COMPILE); then echo 'make test-compiled: skipped: there is no C compiler here, or no headers of Python'; else \
	  $(MAKE) --no-print-directory $(COMPILED)/.stamp && \
	  $(COMPILED)/bin/python -m pytest -n auto --dist loadgroup --tier quick $(ENGINE_TESTS) $(ARGS); fi
$(COMPILED)/.stamp: hatch_build.py pyproject.toml constraints.txt $(shell find service operator -name '*.py' -newer $(COMPILED)/.stamp 2>/dev/null)
	@test -x $(COMPILED)/bin/python || $(PYTHON) -m venv $(COMPILED)
	HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 $(COMPILED)/bin/python -m pip --disable-pip-version-check install --quiet \
	  --constraint constraints.txt '.[dev]'
	@$(COMPILED)/bin/tidegate --version | grep -q compiled
	@touch $@

test-matrices: $(STAMP)
	$(TESTS) --tier rest $(ARGS)

# Each part runs, also when one before it failed. ARGS are for those over all folders.
REST := test-compiled test-matrices js-test dashboards-test cluster-test
test-rest: ; @$(call each,$(REST))
test-all: ; @$(call each,test $(REST))
each = failed=; for part in $(1); do \
  printf '\n== make %s\n' $$part; \
  case $$part in test*) $(MAKE) --no-print-directory $$part ;; *) $(MAKE) --no-print-directory $$part ARGS= ;; esac || \
    failed="$$failed $$part"; \
  done; [ -z "$$failed" ] || { echo "make $@: failed:$$failed" >&2; exit 1; }

test-pauses: $(STAMP)
	$(BIN)/python -m tests.pauses $(ARGS)

# In parts, so that `make -k check` tells of all of them in one run.
check: check-format check-lint check-types check-layers check-release check-site
check-format: $(STAMP)
	$(BIN)/ruff format --check .
check-lint: $(STAMP)
	$(BIN)/ruff check .
check-types: $(STAMP)
	$(BIN)/mypy --strict $(CODE)
check-layers: $(STAMP)
	$(BIN)/lint-imports
check-release: $(STAMP)
	$(BIN)/python -m release versions
	$(BIN)/python -m release workflows

# Its own output, so that it can run beside `make site`.
check-site: $(SITE)
	$(BIN)/python -m website build --out build/site-check

site: $(SITE)
	$(BIN)/python -m website $(or $(ARGS),build)

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dashboards: $(STAMP)
	$(BIN)/python -m dashboards.src

# The browser client. Only this needs Node; npm keeps what it fetched in its own cache.
JS := clients/js
NODE_IS_THERE = node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null && command -v npm >/dev/null
js: $(JS)/node_modules/.stamp
	cd $(JS) && npm run --silent build
# The page of `make run` has the built client in it, so that a machine without Node has it too.
page: js
	cp $(JS)/dist/element.min.js service/tidegate/web/demo/static/tidegate.js
js-test:
	@if $(NODE_IS_THERE); then $(MAKE) --no-print-directory $(JS)/node_modules/.stamp && cd $(JS) && npm test --silent; \
	  else echo 'make js-test: skipped: there is no Node 20 or newer with npm here'; fi
$(JS)/node_modules/.stamp: $(JS)/package.json $(JS)/package-lock.json
	cd $(JS) && npm ci --silent --prefer-offline
	@touch $@

# Real replicas under load and faults, scraped by a real Prometheus; a minute or two.
dashboards-test: $(STAMP)
	$(BIN)/python -m pytest tests/dashboards $(ARGS)

bench: $(STAMP)
	$(BIN)/python -m bench $(ARGS)

drain-demo: $(STAMP)
	$(BIN)/python -m bench.drain $(ARGS)

# What the chart has twice is made from its source.
chart: $(STAMP)
	$(BIN)/python helm/reference.py
chart-check: $(STAMP)
	$(BIN)/python helm/reference.py --check
	$(BIN)/python -m pytest -q tests/chart

# A cluster of one's own; what was built stays in ~/.cache/tidegate.
cluster-up:
	@tests/cluster/lab/build.sh && tests/cluster/lab/images.sh $(if $(NODES),&& tests/cluster/lab/build.sh kube-router)
	@echo "export KUBECONFIG=$$(tests/cluster/lab/up.sh $(if $(NODES),--nodes $(NODES)))"
cluster-down:
	@tests/cluster/lab/down.sh
cluster-load-image:
	@tests/cluster/lab/load.sh docker.io/tidegate/tidegate:lab .
cluster-test: $(STAMP)
	@$(if $(CLUSTER_TIMEOUT_S),timeout $(CLUSTER_TIMEOUT_S)) tests/cluster/run.sh $(ARGS)

fuzz: $(STAMP)
	@mkdir -p build
	@set -e; for target in $$($(BIN)/python -m tests.fuzz); do $(BIN)/python -m tests.fuzz $$target $(SECONDS); done

$(VENV): $(STAMP)

$(RUNS): pyproject.toml constraints.txt | python-is-new-enough
	$(call install,.[embedded])
	@touch $@

# It has all of the other, so `make run` installs nothing after it.
$(STAMP): pyproject.toml constraints.txt | python-is-new-enough
	$(call install,.[dev])
	@touch $(RUNS) $@

$(SITE): $(STAMP)
	$(call install,.[docs])
	@touch $@

# One line that tells what pip is doing on a terminal, and one for each part of it elsewhere. Errors
# are pip's own; without its last line the target fails.
define install
@test -x $(BIN)/python || { echo 'making $(VENV) with $(PYTHON)' && $(PYTHON) -m venv $(VENV); } || { rm -rf $(VENV); \
  echo 'make: $(PYTHON) cannot make a virtual environment (on Debian: apt-get install python3-venv)' >&2; exit 1; }
@echo 'installing $(1) into $(VENV); this happens once'
@$(PIP) install --progress-bar off --no-color --constraint constraints.txt --editable '$(1)' | \
  awk -v terminal=$$(test -t 1 && echo 1 || echo 0) ' \
    function show(text) { if (terminal) printf "\r  %.76s\033[K", text; fflush() } \
    /^Collecting / { show("found " ++packages " packages: " $$2) } \
    /^ *Downloading .*(whl|gz) / { show("downloading " $$2) } \
    /^Installing collected packages/ { show("installing " NF - 3 " packages"); if (!terminal) print "  installing " NF - 3 " packages"; fflush() } \
    /^Successfully installed/ { done = 1 } \
    END { if (terminal) printf "\r\033[K"; exit !done }'
endef

python-is-new-enough:
	@found=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || found='not here'; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: Tidegate needs Python 3.11 or newer, and $(PYTHON) is $$found (PYTHON=python3.13 names another)" >&2; exit 1; }

# In an environment of its own, so that what somebody tried out in .venv does not get pinned.
constraints: | python-is-new-enough
	@rm -rf build/constraints && $(PYTHON) -m venv build/constraints
	build/constraints/bin/python -m pip --disable-pip-version-check install --quiet --upgrade --editable '.[dev,adapters,docs]'
	@{ echo '# What the tests ran with. Made by `make constraints`; do not edit.'; \
	   build/constraints/bin/python -m pip --disable-pip-version-check freeze --exclude-editable --exclude tidegate --exclude setuptools --exclude pip; } > constraints.txt.new
	@mv constraints.txt.new constraints.txt && rm -rf build/constraints && cat constraints.txt

	$(MAKE) --no-print-directory hashes

# What is installed into the image and the tools of a release; the versions are those of constraints.txt.
hashes: $(STAMP)
	$(BIN)/python -m release hashes

audit: $(STAMP)
	$(BIN)/python -m release audit $(ARGS)

release-dry-run: $(STAMP)
	$(BIN)/python -m release dry-run $(ARGS)

clean:
	rm -rf $(JS)/node_modules $(JS)/dist $(JS)/build
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find service operator tests $(wildcard bench) -name __pycache__ -type d -prune -exec rm -rf {} +
