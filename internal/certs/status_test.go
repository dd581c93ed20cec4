package certs

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// The status of everything at once, without a secret in it; and a ticket secret
// is reloaded like any other file.
func TestStatus(t *testing.T) {
	dir := t.TempDir()
	ca := newCA("ca")
	c := ca.issue(uri("spiffe://x/a"), "x.example")
	secret := bytes.Repeat([]byte("hush"), 8)
	write(t, dir+"/ca", ca.pem)
	write(t, dir+"/crl", ca.crl(time.Now().Add(time.Hour)))
	write(t, dir+"/pair", append(bytes.Clone(c.chain), c.key...))
	write(t, dir+"/secret", secret)
	store := NewStore(Options{Settle: 5 * time.Millisecond, TicketSecret: dir + "/secret"})
	server := newServer(t, store, ServerOptions{
		Name: "web", Certificates: []Source{&FileSource{Files: store.Files(), Cert: dir + "/pair"}, &Fake{Label: "sds"}},
		ClientAuth: ClientRequest, Client: Trust{CA: dir + "/ca", CRL: dir + "/crl"},
	})
	go store.Run(t.Context())
	text := string(must(json.Marshal(store.Status())))
	for _, want := range []string{`"DNS:x.example","URI:spiffe://x/a"`, `"used_by":["web"]`, `"state":"warming","error":"not there yet"`, `"key_type":"ECDSA P-256"`, `"next_update"`, `"issuer":"CN=ca"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	for _, hidden := range []string{"PRIVATE", "hush", strings.Split(string(c.key), "\n")[1]} {
		if strings.Contains(text, hidden) {
			t.Errorf("%s is in %s", hidden, text)
		}
	}
	if n := len(store.Gauges()); n != 4 {
		t.Errorf("%d gauges", n)
	}
	if uris := server.LocalURIs("x.example"); len(uris) != 1 || uris[0] != "spiffe://x/a" {
		t.Errorf("URIs %q", uris)
	}

	other := NewTickets(0, time.Now())
	renewed := bytes.Repeat([]byte("new!"), 8)
	if err := other.SetSecret(renewed, time.Now()); err != nil {
		t.Fatal(err)
	}
	before := store.Tickets().Export()
	write(t, dir+"/secret", renewed)
	eventually(t, "the new secret", func() bool { return opens(store.Tickets(), other) })
	if err := other.Import(before, time.Now()); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/secret", []byte("short"))
	eventually(t, "last-good", func() bool {
		for _, s := range store.Status() {
			if s.Kind == "ticket_secret" {
				return s.State == "last-good" && strings.Contains(s.Error, "too few")
			}
		}
		return false
	})
	if !opens(store.Tickets(), other) {
		t.Error("a short secret is used")
	}
}
