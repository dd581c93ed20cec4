// Package examples holds the configurations that belay ships as examples.
package examples

import _ "embed"

// Quickstart needs no backend: its endpoints are listeners of the same daemon.
//
//go:embed quickstart.toml
var Quickstart []byte
