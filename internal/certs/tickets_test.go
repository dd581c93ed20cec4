package certs

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"testing"
	"time"
)

// The vectors of C2SP XAES-256-GCM: of a subkey with, and of one without, the
// carry of the CMAC.
func TestTicketCipher(t *testing.T) {
	for _, tt := range []struct {
		key       byte
		plain, ad string
		want      string
	}{
		{0x01, "XAES-256-GCM", "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{0x03, "XAES-256-GCM", "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		k := newTicketKey(0, [keySize]byte(bytes.Repeat([]byte{tt.key}, keySize)))
		nonce := []byte("ABCDEFGHIJKLMNOPQRSTUVWX")
		if got := hex.EncodeToString(k.aead(nonce).Seal(nil, nonce[12:], []byte(tt.plain), []byte(tt.ad))); got != tt.want {
			t.Errorf("key %x: %s", tt.key, got)
		}
	}
}

// opens reports whether b opens what a seals.
func opens(a, b *Tickets) bool {
	policy := &PolicyID{1}
	k := a.ring.Load().seal
	ticket := k.seal([]byte("session"), policy)
	for _, k := range b.ring.Load().open {
		if s, err := k.open(ticket, policy); err == nil && string(s) == "session" {
			return true
		}
	}
	return false
}

func TestTicketRing(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	day := func(d float64) time.Time { return now.Add(time.Duration(d * 24 * float64(time.Hour))) }
	a := NewTickets(0, now)
	frozen := &Tickets{}
	frozen.ring.Store(a.ring.Load())
	a.Rotate(day(0.5))
	if !opens(frozen, a) {
		t.Error("the ring does not open tickets of the epoch before")
	}
	if !opens(a, frozen) {
		t.Error("a ring that is behind does not open tickets of the next epoch")
	}
	a.Rotate(day(1))
	if opens(frozen, a) {
		t.Error("the ring opens tickets of two epochs before")
	}

	child := NewTickets(0, day(1))
	if opens(a, child) {
		t.Error("keys are not random")
	}
	blob := a.Export()
	if err := child.Import(blob, day(1)); err != nil {
		t.Fatal(err)
	}
	if !opens(a, child) || !opens(child, a) {
		t.Error("the next process does not share the keys")
	}
	a.Rotate(day(1.5))
	child.Rotate(day(1.5))
	if !opens(a, child) || !opens(child, a) {
		t.Error("they part with the first rotation")
	}
	for _, bad := range [][]byte{nil, {9}, blob[:len(blob)-1], append([]byte{2}, blob[1:]...), make([]byte, blobHead)} {
		if child.Import(bad, now) == nil {
			t.Errorf("takes %x", bad)
		}
	}
}

func TestTicketSecret(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	secret := bytes.Repeat([]byte("s"), 32)
	a, b := NewTickets(0, now), NewTickets(0, now)
	before := NewTickets(0, now)
	if err := before.Import(a.Export(), now); err != nil {
		t.Fatal(err)
	}
	if err := a.SetSecret(secret[:31], now); err == nil {
		t.Error("takes a short secret")
	}
	for _, x := range []*Tickets{a, b} {
		if err := x.SetSecret(append(secret, '\n'), now); err != nil {
			t.Fatal(err)
		}
	}
	if !opens(a, b) || !opens(b, a) {
		t.Error("two machines do not agree")
	}
	if !opens(before, a) {
		t.Error("tickets from before the secret are lost")
	}
	if opens(a, before) {
		t.Error("the secret does not matter")
	}
	next := NewTickets(0, now)
	if err := next.SetSecret(bytes.Repeat([]byte("t"), 32), now); err != nil {
		t.Fatal(err)
	}
	if err := next.Import(a.Export(), now); err != nil {
		t.Fatal(err)
	}
	if !opens(a, next) || opens(next, a) {
		t.Error("after a change of the secret and a restart: old tickets are lost, or the old key still seals")
	}
	next.Rotate(now.Add(36 * time.Hour))
	if n := len(next.imported); n != 0 {
		t.Errorf("%d imported keys outlive their epoch", n)
	}
}

// Two processes with the ring handed over resume each other's sessions.
func TestResumptionAcrossProcesses(t *testing.T) {
	source := &SelfSigned{}
	parent, child := NewStore(Options{}), NewStore(Options{})
	if err := child.Tickets().Import(parent.Tickets().Export(), time.Now()); err != nil {
		t.Fatal(err)
	}
	o := ServerOptions{Name: "web", Certificates: []Source{source}}
	client := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1), ServerName: "x"}
	for i, server := range []*Server{newServer(t, parent, o), newServer(t, child, o)} {
		cs, _, _, err := handshake(server.Config(), client)
		if err != nil || cs.DidResume != (i == 1) {
			t.Errorf("process %d: %v, resumed %t", i, err, cs.DidResume)
		}
	}
}

func FuzzTicketImport(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	f.Add(NewTickets(0, now).Export())
	f.Fuzz(func(t *testing.T, blob []byte) {
		tickets := NewTickets(0, now)
		_ = tickets.Import(blob, now) // most are bad
		if !opens(tickets, tickets) || len(tickets.ring.Load().open) > 3+blobMost {
			t.Error("the ring is broken")
		}
	})
}
