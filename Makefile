# What people and CI call. Everything here works from a fresh clone with Rust, a C compiler and python3.

PYTHON ?= python3
CARGO ?= cargo
VENV := .venv
MADE := $(VENV)/.made
# What looks at deploy/ wants other versions of the same packages.
DEPLOY_VENV := .venv-deploy
DEPLOY_MADE := $(DEPLOY_VENV)/.made

# The emulator that was pinned, not one that happens to be about; a test that cannot start it fails.
export MOTO_SERVER ?= $(CURDIR)/$(VENV)/bin/moto_server

# The OpenID provider of the tests; with the variable a test that cannot start it fails.
PROVIDER := tests/provider/node_modules
export MUST_HAVE_PROVIDER := 1

.PHONY: help test test-long bench bench-compare bench-delivery bench-hostile bench-traces lint deny clean-venv fuzz deploy-check deploy-smoke package deb

help:
	@echo "make test       every test (makes $(VENV) with the AWS emulator at the first time)"
	@echo "make test-long  the same, with long outages and ten times the power cuts"
	@echo "make bench      the benchmarks; then bench-compare, bench-delivery, bench-hostile and bench-traces"
	@echo "make bench-compare  beside a bare append, Redis and PostgreSQL: writes benches/RESULTS.md, about 10 minutes"
	@echo "make bench-delivery  from HTTP to a Kinesis stream of its own: writes benches/DELIVERY.md, about 3 minutes"
	@echo "make bench-hostile  honest devices among hostile clients: writes benches/HOSTILE.md, about 2 minutes"
	@echo "make bench-traces  what tracing costs the decision: writes benches/TRACES.md, about 3 minutes"
	@echo "make deny       licences, bans and sources of dependencies (needs cargo-deny: cargo install cargo-deny)"
	@echo "make fuzz       the frame decoder and the snapshot reader, 60 s each (needs cargo-fuzz: cargo install cargo-fuzz)"
	@echo "make deploy-check  deploy/: cfn-lint, checkov, and names that two files have to agree on"
	@echo "make deploy-smoke  deploy/: the stacks in the AWS emulator, and the daemon that make test has built writing to them"
	@echo "make deb        a Debian package in target/debian, of a release build (needs cargo-deb: cargo install cargo-deb)"
	@echo "make lint       formatting, and clippy with warnings as errors"

test: $(MADE) $(PROVIDER)
	$(CARGO) test --workspace --locked

test-long: $(MADE) $(PROVIDER)
	TURNSTILED_LONG=1 $(CARGO) test --workspace --locked

bench:
	$(CARGO) bench --locked --bench decide --bench append --bench entry
	$(MAKE) bench-compare
	$(MAKE) bench-delivery
	$(MAKE) bench-hostile
	$(MAKE) bench-traces

# Redis and PostgreSQL are asked where they are installed (Debian: redis-server, postgresql), and started and
# stopped here. ARGUMENTS="--rounds 1 --seconds 0.5" and so on; BENCH_DIR names a directory of another disk.
bench-compare:
	$(CARGO) bench --locked --bench compare -- $(ARGUMENTS)

bench-delivery:
	$(CARGO) bench --locked --bench delivery -- $(ARGUMENTS)

bench-hostile:
	$(CARGO) bench --locked --bench hostile -- $(ARGUMENTS)

bench-traces:
	$(CARGO) bench --locked --bench traces -- $(ARGUMENTS)

# nightly's sanitizers are not needed: -s none works with the stable compiler
FUZZ_SECONDS ?= 60
fuzz:
	$(CARGO) fuzz run --dev -s none frame -- -max_total_time=$(FUZZ_SECONDS)
	mkdir -p fuzz/corpus/snapshot
	cp tests/golden/snapshots/*.snapshot fuzz/corpus/snapshot/
	$(CARGO) fuzz run --dev -s none snapshot -- -max_total_time=$(FUZZ_SECONDS)

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

deny:
	$(CARGO) deny --offline check licenses bans sources

# checkov looks at nothing but the files: without --skip-download it asks its maker's server for links to put beside findings
deploy-check: $(DEPLOY_MADE)
	$(DEPLOY_VENV)/bin/cfn-lint deploy/cloudformation/*.yaml
	$(DEPLOY_VENV)/bin/checkov --directory deploy/cloudformation --framework cloudformation --compact --quiet --skip-download
	$(DEPLOY_VENV)/bin/python tests/deploy/check.py

TURNSTILED ?= target/debug/turnstiled
deploy-smoke: $(MADE)
	@test -x $(TURNSTILED) || { echo "make: no $(TURNSTILED): cargo build first, or TURNSTILED=/path/to/it" >&2; exit 1; }
	$(VENV)/bin/python tests/deploy/smoke.py $(TURNSTILED)

# What a package has beside the program, made by the program: completions, man pages, and the configuration with its data where
# the service may write.
PACKAGE := target/package
package:
	@test -x $(TURNSTILED) || { echo "make: no $(TURNSTILED): cargo build first, or TURNSTILED=/path/to/it" >&2; exit 1; }
	rm -rf $(PACKAGE)
	$(TURNSTILED) man $(PACKAGE)/man
	for shell in bash fish zsh; do $(TURNSTILED) completions $$shell > $(PACKAGE)/turnstiled.$$shell || exit 1; done
	sed -E 's#"data(["/])#"/var/lib/turnstiled/data\1#' routes.toml > $(PACKAGE)/routes.toml
	$(TURNSTILED) check --config $(PACKAGE)/routes.toml > /dev/null

deb:
	$(CARGO) build --release --locked --bin turnstiled
	$(MAKE) package TURNSTILED=target/release/turnstiled
	$(CARGO) deb --no-build --locked

clean-venv:
	rm -rf $(VENV) $(DEPLOY_VENV)

# Made once, and again when the requirements change. A half-made one has no stamp and is begun anew.
$(MADE): tests/requirements.txt
$(DEPLOY_MADE): tests/deploy/requirements.txt
$(MADE) $(DEPLOY_MADE):
	@$(PYTHON) -c 'import venv, ensurepip' || { \
		echo "make: $(PYTHON) cannot make a virtual environment, which the tests need;" >&2; \
		echo "make: install python3 with venv (Debian, Ubuntu: apt-get install python3-venv)," >&2; \
		echo "make: or name another one: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; \
		exit 1; }
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

# npm makes the directory anew, so a half-made one has no such file.
$(PROVIDER): tests/provider/package-lock.json
	@command -v npm > /dev/null || { \
		echo "make: npm is needed for the OpenID provider of the tests: install Node.js 20 or newer" >&2; exit 1; }
	npm ci --no-audit --no-fund --loglevel=error --prefix tests/provider
	touch $@
