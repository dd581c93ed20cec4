package listener

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"belay/internal/config"
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

// Of the chains whose conditions are met, the one with the most specific is taken:
// port before server name before ALPN before source. The order of the file decides
// between equals only.
func TestFindMostSpecific(t *testing.T) {
	prefixes := func(list ...string) (out []netip.Prefix) {
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	all := []*config.Chain{
		{Name: "any"},
		{Name: "any again"},
		{Name: "port", Ports: []uint16{8443, 9443}},
		{Name: "port and name", Ports: []uint16{8443}, ServerNames: []string{"b.example"}},
		{Name: "exact", ServerNames: []string{"a.example", "b.example"}},
		{Name: "suffix", ServerNames: []string{"*.example"}},
		{Name: "longer", ServerNames: []string{"*.c.example"}},
		{Name: "longer with ALPN", ServerNames: []string{"*.c.example"}, ALPN: []string{"x", "y"}},
		{Name: "exact for some", ServerNames: []string{"d.c.example"}, Sources: prefixes("10.0.0.0/8")},
		{Name: "wide", ServerNames: []string{"s.example"}, Sources: prefixes("10.0.0.0/8", "2001:db8::/32")},
		{Name: "narrow", ServerNames: []string{"s.example"}, Sources: prefixes("10.1.0.0/16")},
		{Name: "ALPN beats narrow", ServerNames: []string{"s.example"}, ALPN: []string{"x"}, Sources: prefixes("10.0.0.0/8")},
		{Name: "everywhere", ServerNames: []string{"s.example"}, Sources: prefixes("0.0.0.0/0")},
	}
	tests := []struct {
		name, alpn, source string
		port               uint16
		want               string
	}{
		{"", "", "192.0.2.1", 443, "any"},
		{"nowhere", "", "192.0.2.1", 443, "any"},
		{"example", "", "192.0.2.1", 443, "any"}, // *.example is below example
		{"a.example", "", "192.0.2.1", 443, "exact"},
		{"x.example", "", "192.0.2.1", 443, "suffix"},
		{"x.y.example", "", "192.0.2.1", 443, "suffix"},
		{"c.example", "", "192.0.2.1", 443, "suffix"},
		{"x.y.c.example", "", "192.0.2.1", 443, "longer"},
		{"x.c.example", "y z", "192.0.2.1", 443, "longer with ALPN"},
		{"x.c.example", "z", "192.0.2.1", 443, "longer"},
		{"xc.example", "y", "192.0.2.1", 443, "suffix"},
		{"d.c.example", "", "10.2.3.4", 443, "exact for some"},
		{"d.c.example", "", "11.2.3.4", 443, "longer"}, // the exact one is not for this source, so the next name
		{"d.c.example", "x", "11.2.3.4", 443, "longer with ALPN"},
		{"s.example", "", "10.2.3.4", 443, "wide"},
		{"s.example", "", "10.1.3.4", 443, "narrow"},
		{"s.example", "x", "10.1.3.4", 443, "ALPN beats narrow"},
		{"s.example", "", "2001:db8::1", 443, "wide"},
		{"s.example", "", "192.0.2.1", 443, "everywhere"},
		{"s.example", "", "2001:db9::1", 443, "suffix"}, // 0.0.0.0/0 is of IPv4 alone
		{"s.example", "", "", 443, "suffix"},            // a Unix socket
		{"b.example", "", "192.0.2.1", 8443, "port and name"},
		{"a.example", "", "192.0.2.1", 8443, "port"}, // the port comes before the name
		{"a.example", "", "192.0.2.1", 9443, "port"},
		{"b.example", "", "192.0.2.1", 9443, "port"},
		{"b.example", "", "192.0.2.1", 0, "exact"},
	}
	for _, reverse := range []bool{false, true} {
		var list []*Chain
		for i, c := range all {
			list = append(list, &Chain{Name: c.Name, Config: c, Index: i})
		}
		if reverse {
			slices.Reverse(list)
		}
		chains := newChains(list, nil)
		for _, tt := range tests {
			f := Facts{ServerName: []byte(tt.name), ALPN: strings.Fields(tt.alpn), Port: tt.port}
			if tt.source != "" {
				f.Source = netip.MustParseAddr(tt.source)
			}
			want := tt.want
			if want == "any" && reverse {
				want = "any again"
			}
			if m := chains.find(&f); m.Chain == nil || m.Chain.Name != want {
				t.Errorf("reversed %t: %+v: %+v", reverse, tt, m)
			}
		}
	}
}

// Without a chain for all, the listener's own TLS is for the rest, or there is none.
func TestFindNone(t *testing.T) {
	list := []*Chain{{Name: "a", Config: &config.Chain{ServerNames: []string{"a.example"}, Ports: []uint16{443}}}}
	base := &Chain{Name: "base"}
	for _, tt := range []struct {
		name string
		port uint16
		want *Chain
	}{
		{"a.example", 443, list[0]},
		{"a.example", 444, base},
		{"b.example", 443, base},
		{"", 443, base},
	} {
		f := Facts{ServerName: []byte(tt.name), Port: tt.port}
		if got := newChains(list, base).find(&f); got.Chain != tt.want || (got.Name == NameAny) != (tt.want == base) {
			t.Errorf("%+v: %+v", tt, got)
		}
		if got := newChains(list, nil).find(&f).Chain; got != tt.want && got != nil || got == base {
			t.Errorf("%+v without a base: %v", tt, got)
		}
	}
}

// What tls explain tells: by which condition.
func TestFindSaysWhy(t *testing.T) {
	list := []*Chain{
		{Name: "a", Config: &config.Chain{ServerNames: []string{"x.example", "*.a.example"}, ALPN: []string{"p"}, Ports: []uint16{443}, Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}},
	}
	f := Facts{ServerName: []byte("b.a.example"), ALPN: []string{"p"}, Port: 443, Source: netip.MustParseAddr("10.0.0.1")}
	m := newChains(list, nil).find(&f)
	want := Match{Chain: list[0], Name: NameSuffix, ServerName: "*.a.example", Port: true, ALPN: true, Source: netip.MustParsePrefix("10.0.0.0/8")}
	if m != want {
		t.Errorf("%+v, want %+v", m, want)
	}
	f.ServerName = []byte("x.example")
	if m = newChains(list, nil).find(&f); m.Name != NameExact || m.ServerName != "x.example" {
		t.Errorf("%+v", m)
	}
}
