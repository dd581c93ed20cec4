# belay: targets a person types. CI runs make test through .ci/run.
SHELL := /bin/sh
GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION)
STATICCHECK := $(GO) tool -modfile=tools/go.mod staticcheck
SOAK ?= 10m
SOAK_RELOADS ?= 1000
RELOADS ?= 20

# The version is VERSION; Go need not ask git a second time.
export GOFLAGS += -buildvcs=false

.PHONY: build run test fuzz bench bench-reload soak proto lint lint-gofmt lint-vet lint-staticcheck lint-man deps clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/belayd ./cmd/belayctl

# One listener, three endpoints, all in one process: no backend is needed.
run: build
	@exec bin/belayd quickstart

deps:
	@sh test/install-deps.sh

test: deps
	@$(GO) run ./test/runner

fuzz:
	@$(GO) run ./test/runner -steps fuzz

soak: deps
	BELAY_SOAK=$(SOAK) $(GO) test -count=1 -v -timeout=0 -run '^TestSoak$$' ./test
	BELAY_SOAK_RELOADS=$(SOAK_RELOADS) $(GO) test -count=1 -v -timeout=0 -run '^TestServiceReloadUnderLoad$$' ./test

bench: build deps
	$(GO) run ./bench -write docs/benchmarks.md
	$(GO) -C bench/headermap run . -into ../../docs/header-map.md

# Configuration reloads under load; RELOADS of each server.
bench-reload: build deps
	$(GO) run ./bench -reloads $(RELOADS) -write docs/benchmarks.md

# The messages of hot restart; protoc is Debian's protobuf-compiler.
proto:
	$(GO) build -modfile=tools/proto/go.mod -o bin/protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go
	protoc --plugin=bin/protoc-gen-go --go_out=. --go_opt=module=belay internal/hotrestart/hotrestartpb/restart.proto

lint: lint-gofmt lint-vet lint-staticcheck lint-man

lint-gofmt:
	@bad=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
	if [ -n "$$bad" ]; then echo "gofmt is needed for:"; echo "$$bad"; exit 1; fi

lint-vet:
	CGO_ENABLED=0 GOARCH=amd64 $(GO) vet ./...
	CGO_ENABLED=0 GOARCH=arm64 $(GO) vet ./...

lint-staticcheck:
	$(STATICCHECK) -checks all ./...

lint-man:
	mandoc -T lint -W warning man/*.[1578]

clean:
	rm -rf bin

# --- Packages: dist/*.deb, *.rpm, *.pkg.tar.zst for amd64 and arm64 ---------------
# The version comes from git describe, the time of all files from the last commit.
ARCHES ?= amd64 arm64
DIST ?= dist
MAINTAINER ?= belay maintainers <maintainers@belay.example>
packaging = GO='$(GO)' MAINTAINER='$(MAINTAINER)' \
	SOURCE_DATE_EPOCH="$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)}" packaging/

.PHONY: packages packages-check clean-packages

packages:
	rm -rf '$(DIST)'
	@$(packaging)build.sh '$(VERSION)' '$(DIST)' $(ARCHES)
	@ls -l '$(DIST)'

# Builds them once more elsewhere and compares every byte; lints what it can.
packages-check: packages
	@$(packaging)check.sh '$(VERSION)' '$(DIST)' $(ARCHES)

clean: clean-packages

clean-packages:
	rm -rf '$(DIST)'
