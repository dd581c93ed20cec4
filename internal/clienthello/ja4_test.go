package clienthello

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// hexes reads a list such as FoxIO publishes, "1301,c02b".
func hexes(t testing.TB, list string) []uint16 {
	t.Helper()
	var out []uint16
	for f := range strings.SplitSeq(list, ",") {
		v, err := strconv.ParseUint(f, 16, 16)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, uint16(v))
	}
	return out
}

// lists makes a hello of cipher suites, extensions in their order, algorithms,
// versions and ALPN names. An extension without data here has none.
func lists(t testing.TB, ciphers, extensions, algorithms, versions string, alpn ...string) []byte {
	var names []byte
	for _, a := range alpn {
		names = append(names, v8([]byte(a))...)
	}
	var block []byte
	for _, e := range hexes(t, extensions) {
		switch e {
		case extServerName:
			block = append(block, name("example.com")...)
		case extALPN:
			block = append(block, ext(e, v16(names))...)
		case extSignatureAlgs:
			block = append(block, ext(e, v16(numbers(hexes(t, algorithms)...)))...)
		case extSupportedVersions:
			block = append(block, ext(e, v8(numbers(hexes(t, versions)...)))...)
		case extSupportedGroups:
			block = append(block, ext(e, v16(numbers(0x1a1a, 29)))...)
		default:
			block = append(block, ext(e, nil)...)
		}
	}
	return builder{ciphers: numbers(hexes(t, ciphers)...), extensions: block}.bytes()
}

const chromeCiphers = "5a5a,1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035"
const chromeAlgorithms = "0403,0804,0401,0503,0805,0501,0806,0601"

// The examples that FoxIO published: the first is worked through in JA4.md, the
// others are in the table of its README, rebuilt from what these clients send.
func TestJA4Published(t *testing.T) {
	for _, c := range []struct {
		name, want string
		in         []byte
	}{
		{"JA4.md", "t13d1516h2_8daaf6152771_e5627efa2ab1", lists(t, chromeCiphers,
			"0a0a,001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,2a2a,0015",
			chromeAlgorithms, "baba,0304,0303", "h2", "http/1.1")},
		{"Chromium", "t13d1516h2_8daaf6152771_02713d6af862", lists(t, chromeCiphers,
			"eaea,0000,0017,ff01,000a,000b,0023,0010,0005,000d,0012,0033,002d,002b,001b,4469,fe0d,6a6a",
			chromeAlgorithms, "1a1a,0304,0303", "h2", "http/1.1")},
		{"Sliver", "t13d190900_9dc949149365_97f8aa674fd9", lists(t,
			"c02f,c030,c02b,c02c,cca8,cca9,c013,c009,c014,c00a,009c,009d,002f,0035,c012,000a,1301,1302,1303",
			"0000,0005,000a,000b,000d,ff01,0012,002b,0033",
			"0804,0403,0807,0805,0806,0401,0501,0601,0503,0603,0201,0203", "0304,0303,0302,0301")},
		// JA4.md: without signature algorithms the list ends without "_", which
		// gives 6d807ffa2a79 for the extensions above. There 000d is still in
		// the list, so that here it is there, with GREASE only.
		{"no algorithms", "t13d1516h2_8daaf6152771_6d807ffa2a79", lists(t, chromeCiphers,
			"001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015",
			"0a0a", "0304", "h2")},
	} {
		var h Hello
		if s := Parse(c.in, &h); s != Done {
			t.Fatalf("%s: %v %s", c.name, s, h.Reason)
		}
		if got := string(h.AppendJA4(nil)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// The rules of JA4.md of which no example is published, part a.
func TestJA4PartA(t *testing.T) {
	alpn := func(names ...string) []byte { return lists(t, "1301", "0010", "", "", names...) }
	many := make([]uint16, 120)
	for i := range many {
		many[i] = uint16(i)
	}
	for _, c := range []struct {
		name, want string
		in         []byte
	}{
		{"no extensions", "t12i020000", builder{}.bytes()},
		{"TLS 1.1", "t11i020000", builder{version: 0x0302}.bytes()},
		{"TLS 1.0", "t10i020000", builder{version: 0x0301}.bytes()},
		{"SSL 3.0", "ts3i020000", builder{version: 0x0300}.bytes()},
		{"SSL 2.0", "ts2i020000", builder{version: 0x0002}.bytes()},
		{"unknown version", "t00i020000", builder{version: 0x0399}.bytes()},
		{"only GREASE versions", "t00i010100", lists(t, "1301", "002b", "", "fafa")},
		{"SCSV counts", "t12i030000", builder{ciphers: numbers(0x1301, 0x00ff, 0x5600)}.bytes()},
		{"only GREASE", "t12i000000", builder{ciphers: numbers(0x0a0a), extensions: ext(0x3a3a, nil)}.bytes()},
		{"120 suites", "t12i990000", builder{ciphers: numbers(many...)}.bytes()},
		{"120 extensions", "t12i029900", builder{extensions: manyExtensions(120)}.bytes()},
		{"an address is a name, too", "t12d020100", builder{extensions: name("192.0.2.1")}.bytes()},
		{"http/1.1", "t12i0101h1", alpn("http/1.1", "h2")},
		{"one letter", "t12i0101hh", alpn("h")},
		{"GREASE protocol", "t12i0101h2", alpn("\x8a\x8a", "h2")},
		{"only GREASE protocols", "t12i010100", alpn("\x8a\x8a")},
		{"hex 1", "t12i0101ab", alpn("\xab")},
		{"hex 2", "t12i0101ad", alpn("\xab\xcd")},
		{"hex 3", "t12i01013b", alpn("0\xab")},
		{"hex 4", "t12i01013d", alpn("01\xab\xcd")},
		{"not hex", "t12i010101", alpn("0\xab\xcd1")},
		{"ends with -", "t12i01016d", alpn("h-")},
		{"capitals", "t12i0101AZ", alpn("AxZ")},
	} {
		var h Hello
		if s := Parse(c.in, &h); s != Done {
			t.Fatalf("%s: %v %s", c.name, s, h.Reason)
		}
		got := string(h.AppendJA4(nil))
		if a, _, _ := strings.Cut(got, "_"); a != c.want || len(got) != MaxJA4 {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestJA4EmptyLists(t *testing.T) {
	var h Hello
	Parse(builder{ciphers: numbers(0x0a0a), extensions: name("a.example")}.bytes(), &h)
	if got := string(h.AppendJA4([]byte("ja4="))); got != "ja4=t12d000100_000000000000_000000000000" {
		t.Error(got)
	}
}

// otherJA4 computes JA4 in another way, and from what crypto/tls read.
func otherJA4(info *tls.ClientHelloInfo) string {
	list := func(in []uint16, skip ...uint16) []string {
		out := []string{}
		for _, v := range in {
			if s := fmt.Sprintf("%04x", v); s[1] == 'a' && s[3] == 'a' && s[0] == s[2] || slices.Contains(skip, v) {
				continue
			} else {
				out = append(out, s)
			}
		}
		return out
	}
	digest := func(parts []string, more []string) string {
		if len(parts) == 0 {
			return "000000000000"
		}
		text := strings.Join(parts, ",")
		if len(more) > 0 {
			text += "_" + strings.Join(more, ",")
		}
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])[:12]
	}
	algorithms := []uint16{}
	for _, s := range info.SignatureSchemes {
		algorithms = append(algorithms, uint16(s))
	}
	named := "i"
	if slices.Contains(info.Extensions, 0) {
		named = "d"
	}
	alpn := "00"
	if len(info.SupportedProtos) > 0 {
		p := info.SupportedProtos[0]
		alpn = p[:1] + p[len(p)-1:]
	}
	ciphers := list(info.CipherSuites)
	extensions := list(info.Extensions, 0, 16)
	slices.Sort(ciphers)
	slices.Sort(extensions)
	version := map[uint16]string{0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10"}[slices.Max(info.SupportedVersions)]
	return fmt.Sprintf("t%s%s%02d%02d%s_%s_%s", version, named, len(ciphers), len(list(info.Extensions)), alpn,
		digest(ciphers, nil), digest(extensions, list(algorithms)))
}

func TestJA4Captures(t *testing.T) {
	for _, c := range captures {
		info, err := viewOfTLS(c.bytes(t))
		if info == nil {
			if c.name != "openssl-trailing-dot" {
				t.Errorf("%s: crypto/tls does not read it: %v", c.name, err)
			}
			continue
		}
		if got, want := string(c.hello(t).AppendJA4(nil)), otherJA4(info); got != want {
			t.Errorf("%s: %s, want %s", c.name, got, want)
		}
	}
}

func TestJA4Allocations(t *testing.T) {
	h := captures[8].hello(t)
	buf := make([]byte, 0, MaxJA4)
	if n := testing.AllocsPerRun(100, func() { buf = h.AppendJA4(buf[:0]) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
