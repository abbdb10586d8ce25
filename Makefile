# SPDX-License-Identifier: MIT OR Apache-2.0
# The two commands: `make demo` shows keepahead at work on a device that it sets up itself, `make test` runs every test.
# Both install what is missing first (Debian, Ubuntu). Every target is safe to repeat.

SHELL := /bin/bash
CARGO ?= cargo
# rustup and cargo install put their programs here; mkfs and losetup live in sbin, which a user's PATH leaves out.
export PATH := $(PATH):/usr/sbin:/sbin:$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
# Where cargo puts the release binary; a relative CARGO_TARGET_DIR counts from here, as it does to cargo.
RELEASE = $(abspath $(or $(CARGO_TARGET_DIR),target))/release
BPF_SOURCES = $(wildcard bpf/*.c bpf/*.h)
SCRIPTS = $(shell grep -rlsE '^\#!/(usr/bin/env |bin/)bash' scripts .ci)

.PHONY: help build setup demo test bench lint
.DEFAULT_GOAL := help

help:
	@echo "make demo    a real workload on a slow device, without and with keepahead (root, under 4 minutes); else simulated"
	@echo "make test    every test; those that need root or BPF say so when they are skipped"
	@echo "make bench   figures into target/bench/*.json, and as tables (make bench-NAME: one of them)"
	@echo "make lint    formats, lints, licences, spelling"
	@echo "make build   the release binary $(RELEASE)/keepahead, and the C library and preload shim beside it"
	@echo "make setup   install what building needs, and nothing else"

setup:
	@scripts/setup build

build: setup
	$(CARGO) build --release --locked
	@$(MAKE) --no-print-directory -C clients/c OUT=$(RELEASE)

demo:
	@scripts/demo

# Tests named real_kernel share the machine's devices and page cache, so they run one at a time; all others run together.
test:
	@scripts/setup test
	$(CARGO) test --workspace --locked -- --skip real_kernel
	$(CARGO) test --workspace --locked --no-fail-fast --lib --bins --tests -- real_kernel --test-threads=1

bench:
	@scripts/setup bench
	@scripts/bench

bench-%:
	@scripts/setup bench
	@scripts/bench $*

lint:
	@scripts/setup lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --workspace --all-targets --locked --no-default-features -- -D warnings
	$(if $(BPF_SOURCES),clang-format --dry-run -Werror $(BPF_SOURCES))
	$(CARGO) deny --locked check licenses bans sources
	typos
	$(if $(SCRIPTS),shellcheck $(SCRIPTS))
