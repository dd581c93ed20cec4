# belay: targets a person types. CI runs make test through .ci/run.
SHELL := /bin/sh
GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION)
STATICCHECK := $(GO) tool -modfile=tools/go.mod staticcheck
SOAK ?= 10m

# The version is VERSION; Go need not ask git a second time.
export GOFLAGS += -buildvcs=false

.PHONY: build run test fuzz bench soak lint lint-gofmt lint-vet lint-staticcheck lint-man deps clean

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

bench: build deps
	$(GO) run ./bench -write docs/benchmarks.md
	$(GO) -C bench/headermap run . -into ../../docs/header-map.md

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
	mandoc -T lint -W warning man/*.[158]

clean:
	rm -rf bin
