package listener

import (
	"net/netip"
	"testing"
)

func TestHostName(t *testing.T) {
	for host, want := range map[string]string{
		"a.example": "a.example", "a.example:80": "a.example", "a.example.": "a.example", "a.example.:80": "a.example",
		"[::1]": "::1", "[::1]:80": "::1", "10.0.0.1:80": "10.0.0.1", "": "", ":80": "", "a:": "a",
	} {
		if got := string(HostName([]byte(host))); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}

func TestFindDoesNotAllocate(t *testing.T) {
	g := mixedGate(t)
	f := Facts{ServerName: []byte("a.b.c.closed.example"), Source: netip.MustParseAddr("192.0.2.1"), Port: 443}
	if n := testing.AllocsPerRun(100, func() {
		if g.Find(&f).Chain == nil {
			t.Fatal("none")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
