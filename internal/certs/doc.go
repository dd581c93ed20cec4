// Package certs is what TLS knows: certificates and where they come from, whom
// it trusts, which sessions it resumes. It does no I/O on connections; it makes
// the *tls.Config values that the transport drives.
//
// The control plane and the data path meet in one place:
//
//	files, credentials → Source → Store (watch, load, keep the last good)
//	→ a new snapshot → atomic pointer → Server.Config, Worker.Config
//
// A snapshot never changes. A handshake ends with the one it started with, for
// its callbacks are closures over it; the next handshake sees the new one. What
// runs on a worker (selection, tickets, verification) takes no lock, waits for
// nothing and reads no file.
package certs
