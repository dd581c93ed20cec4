package netset

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

func prefixes(list ...string) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

func TestContains(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  []netip.Prefix
		addr string // "": the zero Addr
		want bool
	}{
		{"OK in v4", prefixes("10.0.0.0/8"), "10.255.0.1", true},
		{"OK first address", prefixes("10.0.0.0/8"), "10.0.0.0", true},
		{"OK single", prefixes("10.0.0.1/32"), "10.0.0.1", true},
		{"OK one of several", prefixes("192.0.2.0/24", "10.0.0.0/8", "2001:db8::/32"), "2001:db8::1", true},
		{"OK nested", prefixes("10.0.0.0/8", "10.1.0.0/16"), "10.2.0.1", true},
		{"OK all of v4", prefixes("0.0.0.0/0"), "203.0.113.9", true},
		{"OK all of v6", prefixes("::/0"), "2001:db8::1", true},
		{"OK address mapped", prefixes("10.0.0.0/8"), "::ffff:10.0.0.1", true},
		{"OK prefix mapped", prefixes("::ffff:10.0.0.0/104"), "10.0.0.1", true},
		{"OK zone", prefixes("fe80::/10"), "fe80::1%eth0", true},
		{"OK host bits", prefixes("10.1.2.3/8"), "10.9.9.9", true},
		{"no beside", prefixes("10.0.0.0/8"), "11.0.0.0", false},
		{"no below", prefixes("10.0.0.0/8"), "9.255.255.255", false},
		{"no other family", prefixes("0.0.0.0/0"), "::1", false},
		{"no v4 in all of v6", prefixes("::/0"), "10.0.0.1", false},
		{"no empty", nil, "10.0.0.1", false},
		{"no invalid prefix", []netip.Prefix{{}}, "10.0.0.1", false},
		{"no zero address", prefixes("0.0.0.0/0", "::/0"), "", false},
	} {
		var a netip.Addr
		if tt.addr != "" {
			a = netip.MustParseAddr(tt.addr)
		}
		s := New(tt.set)
		if got := s.Contains(a); got != tt.want {
			t.Errorf("%s: %v contains %q: %v", tt.name, tt.set, tt.addr, got)
		}
		if s.Empty() != (s == nil) {
			t.Errorf("%s: empty %v", tt.name, s.Empty())
		}
	}
}

func FuzzContains(f *testing.F) {
	f.Add([]byte{10, 0, 0, 0}, byte(8), []byte{10, 1, 2, 3})
	f.Add(make([]byte, 16), byte(0), make([]byte, 16))
	f.Fuzz(func(t *testing.T, prefix []byte, bits byte, addr []byte) {
		p, _ := netip.AddrFromSlice(prefix)
		a, _ := netip.AddrFromSlice(addr)
		p, a = p.Unmap(), a.Unmap()
		pfx := netip.PrefixFrom(p, int(bits))
		if got, want := New([]netip.Prefix{pfx}).Contains(a), pfx.Contains(a); got != want {
			t.Errorf("%v contains %v: %v", pfx, a, got)
		}
	})
}

// many is a set as a list of a country's networks would be.
func many() *Set {
	var list []netip.Prefix
	for i := range uint32(10_000) {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], i*0x9e3779b9)
		list = append(list, netip.PrefixFrom(netip.AddrFrom4(b), 16+int(i%9)))
	}
	return New(list)
}

func TestContainsDoesNotAllocate(t *testing.T) {
	s, a, v6 := many(), netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("::ffff:203.0.113.9")
	if n := testing.AllocsPerRun(100, func() { s.Contains(a); s.Contains(v6) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkContains10k(b *testing.B) {
	s, a := many(), netip.MustParseAddr("203.0.113.9")
	b.ReportAllocs()
	for b.Loop() {
		s.Contains(a)
	}
}
