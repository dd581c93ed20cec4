package header

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
)

// parsed returns a map of the head, which has well-formed lines.
func parsed(t testing.TB, head string) *Map {
	t.Helper()
	m := new(Map)
	b := []byte(head)
	m.Reset(b)
	for _, f := range offsets(b) {
		if _, err := m.AddField(f[0], f[1], f[2], f[3]); err != nil {
			t.Fatalf("%q: %v", b[f[0]:f[0]+f[1]], err)
		}
	}
	return m
}

func TestMapOperations(t *testing.T) {
	const head = "Host: a\r\nX-One: 1\r\nvia: b\r\nX-Two:2\r\nVIA: c\r\n"
	tests := []struct {
		name string
		do   func(m *Map)
		want string
	}{
		{"nothing", func(m *Map) {}, "Host: a\r\nX-One: 1\r\nvia: b\r\nX-Two: 2\r\nVIA: c\r\n"},
		{"set keeps place and case, drops the rest", func(m *Map) { _ = m.SetString(Via, "z") },
			"Host: a\r\nX-One: 1\r\nvia: z\r\nX-Two: 2\r\n"},
		{"set a new one", func(m *Map) { _ = m.SetString(Server, "s") },
			"Host: a\r\nX-One: 1\r\nvia: b\r\nX-Two: 2\r\nVIA: c\r\nServer: s\r\n"},
		{"set by name keeps the case that came", func(m *Map) { _ = m.SetName("x-one", "9") },
			"Host: a\r\nX-One: 9\r\nvia: b\r\nX-Two: 2\r\nVIA: c\r\n"},
		{"set by name takes the case given", func(m *Map) { _ = m.SetName("SERVER", "s") },
			"Host: a\r\nX-One: 1\r\nvia: b\r\nX-Two: 2\r\nVIA: c\r\nSERVER: s\r\n"},
		{"set to nothing", func(m *Map) { _ = m.Set(Host, nil) },
			"Host: \r\nX-One: 1\r\nvia: b\r\nX-Two: 2\r\nVIA: c\r\n"},
		{"lend nothing", func(m *Map) { _ = m.SetRef(Host, nil) },
			"Host: \r\nX-One: 1\r\nvia: b\r\nX-Two: 2\r\nVIA: c\r\n"},
		{"append to the first", func(m *Map) { _ = m.Append(Via, ", ", []byte("d")); _ = m.Append(Via, ", ", []byte("e")) },
			"Host: a\r\nX-One: 1\r\nvia: b, d, e\r\nX-Two: 2\r\nVIA: c\r\n"},
		{"append in turns", func(m *Map) {
			for range 2 {
				_ = m.Append(Host, "+", []byte("h"))
				_ = m.Append(Via, "-", []byte("v"))
			}
		}, "Host: a+h+h\r\nX-One: 1\r\nvia: b-v-v\r\nX-Two: 2\r\nVIA: c\r\n"},
		{"append nothing", func(m *Map) { _ = m.Append(Host, "", nil) }, "Host: a\r\nX-One: 1\r\nvia: b\r\nX-Two: 2\r\nVIA: c\r\n"},
		{"append to what is not there", func(m *Map) { _ = m.Append(Age, ", ", []byte("5")) },
			"Host: a\r\nX-One: 1\r\nvia: b\r\nX-Two: 2\r\nVIA: c\r\nAge: 5\r\n"},
		{"remove all of a name", func(m *Map) { m.Remove(Via) }, "Host: a\r\nX-One: 1\r\nX-Two: 2\r\n"},
		{"remove what is not there", func(m *Map) { m.Remove(Age) }, "Host: a\r\nX-One: 1\r\nvia: b\r\nX-Two: 2\r\nVIA: c\r\n"},
		{"remove a prefix", func(m *Map) { m.RemovePrefix("x-") }, "Host: a\r\nvia: b\r\nVIA: c\r\n"},
		{"remove everything", func(m *Map) { m.RemovePrefix("") }, ""},
		{"numbers", func(m *Map) { m.SetInt(Age, -1<<63); m.SetInt(Host, 0) },
			"Host: 0\r\nX-One: 1\r\nvia: b\r\nX-Two: 2\r\nVIA: c\r\nAge: -9223372036854775808\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := parsed(t, head)
			tt.do(m)
			if got := string(m.AppendTo(nil)); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if m.ByteSize() != len(tt.want) {
				t.Errorf("ByteSize is %d, not %d", m.ByteSize(), len(tt.want))
			}
		})
	}
}

func TestMapAppendJoined(t *testing.T) {
	m := parsed(t, "cookie: a=1\r\nvia: x\r\nset-cookie: s\r\ncookie: b=2\r\nvia: y\r\nset-cookie: t\r\n")
	for h, want := range map[Handle]string{Cookie: "a=1; b=2", Via: "x, y", SetCookie: "s", Age: ""} {
		if got := string(m.AppendJoined([]byte("="), h)); got != "="+want {
			t.Errorf("%v is %q, not %q", h, got, want)
		}
	}
}

func TestMapEmptyValueIsNotNil(t *testing.T) {
	m := parsed(t, "Host: \r\nX-Empty: \r\n")
	_ = m.SetString(Age, "")
	_ = m.SetRef(Server, nil)
	for _, v := range [][]byte{m.Get(Host), m.GetName("x-empty"), m.Get(Age), m.Get(Server)} {
		if v == nil || len(v) != 0 {
			t.Errorf("got %v", v)
		}
	}
	if m.Get(Via) != nil || m.GetName("x-other") != nil || m.GetName("") != nil || m.HasName("x-other") || !m.HasName("X-EMPTY") {
		t.Error("found a field that is not there")
	}
}

func TestMapZeroValue(t *testing.T) {
	var m Map
	if m.Get(Host) != nil || m.GetName("x") != nil || m.RemoveName([]byte("x")) != 0 || m.Len() != 0 || len(m.AppendTo(nil)) != 0 {
		t.Error("an empty map has something")
	}
	m.Remove(Host)
	var c Map
	c.CopyFrom(&m)
	c.CopyFrom(&c)
	if _, err := m.AddCopy([]byte("x-a"), []byte("1")); err != nil || m.Len() != 1 {
		t.Errorf("AddCopy: %v", err)
	}
}

func TestSettersRefuse(t *testing.T) {
	type setter struct {
		name string
		set  func(m *Map, v string) error
	}
	setters := []setter{
		{"Set", func(m *Map, v string) error { return m.Set(Server, []byte(v)) }},
		{"SetString", func(m *Map, v string) error { return m.SetString(Host, v) }},
		{"SetRef", func(m *Map, v string) error { return m.SetRef(Host, []byte(v)) }},
		{"Append", func(m *Map, v string) error { return m.Append(Host, ", ", []byte(v)) }},
		{"Append to nothing", func(m *Map, v string) error { return m.Append(Server, ", ", []byte(v)) }},
		{"delimiter", func(m *Map, v string) error { return m.Append(Host, v, []byte("x")) }},
		{"SetName", func(m *Map, v string) error { return m.SetName("x-a", v) }},
		{"SetName of one there", func(m *Map, v string) error { return m.SetName("host", v) }},
		{"AddName", func(m *Map, v string) error { return m.AddName("x-a", v) }},
		{"AddCopy", func(m *Map, v string) error { _, err := m.AddCopy([]byte("x-a"), []byte(v)); return err }},
	}
	for _, s := range setters {
		for _, bad := range []string{"\r", "\n", "\x00"} {
			for _, pad := range []string{"", "\t", "1234567", "\t2345678", "0123456789abcdef"} {
				m := parsed(t, "Host: a\r\n")
				for _, v := range []string{bad + pad, pad + bad, pad + bad + pad} {
					if err := s.set(m, v); err != ErrInvalidValue {
						t.Errorf("%s %q: %v", s.name, v, err)
					}
				}
				if got := string(m.AppendTo(nil)); got != "Host: a\r\n" {
					t.Errorf("%s changed the map to %q", s.name, got)
				}
			}
		}
		m := parsed(t, "Host: a\r\n")
		if err := s.set(m, "tab\t, \x01\x0b\x0c\x7f\xff and any other byte"); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
	}
}

func TestNamesRefused(t *testing.T) {
	var m Map
	for c := range 256 {
		name := "x" + string([]byte{byte(c)}) + "y"
		token := strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		err := m.AddName(name, "v")
		if token && err != nil || !token && err != ErrInvalidName {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := m.SetName("", "v"); err != ErrInvalidName {
		t.Errorf("empty name: %v", err)
	}
	if err := m.AddName(strings.Repeat("x", 1<<16), "v"); err != ErrNameTooLong {
		t.Errorf("long name: %v", err)
	}
	for _, h := range []Handle{0, maxHandles - 1, maxHandles} {
		if err := m.SetString(h, "v"); err != ErrInvalidName {
			t.Errorf("handle %d: %v", h, err)
		}
	}
	if err := m.SetRef(0, nil); err != ErrInvalidName {
		t.Errorf("handle 0: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("SetInt of handle 0 did not panic")
		}
	}()
	m.SetInt(0, 1)
}

func TestLimits(t *testing.T) {
	tests := []struct {
		name   string
		limits Limits
		head   string
		taken  int // fields before the error
		want   error
	}{
		{"none", Limits{}, strings.Repeat("A-b: c\r\n", 5000), 5000, nil},
		{"fields", Limits{Fields: 2}, "a: 1\r\nb: 2\r\nc: 3\r\n", 2, ErrTooManyFields},
		{"fields just so", Limits{Fields: 3}, "a: 1\r\nb: 2\r\nc: 3\r\n", 3, nil},
		{"bytes", Limits{Bytes: 17}, "a: 1\r\nb: 2\r\nc: 3\r\n", 2, ErrTooLarge},
		{"bytes just so", Limits{Bytes: 18}, "a: 1\r\nb: 2\r\nc: 3\r\n", 3, nil},
		{"blanks count", Limits{Bytes: 18}, "a:    1\r\nb: 2\r\nc: 3\r\n", 2, ErrTooLarge},
		{"name", Limits{Name: 3}, "abc: 1\r\nabcd: 1\r\n", 1, ErrNameTooLong},
		{"ceiling", Limits{Fields: 1 << 20}, strings.Repeat("a: b\r\n", 1<<15), maxDecoded, ErrTooManyFields},
		{"duplicate", Limits{}, "Host: a\r\nVia: b\r\nVia: b\r\nhost: a\r\n", 3, ErrDuplicate},
		{"empty name", Limits{}, ": a\r\n", 0, ErrInvalidName},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m, copied Map
			m.SetLimits(tt.limits)
			copied.SetLimits(tt.limits)
			b := []byte(tt.head)
			m.Reset(b)
			err, errCopied := error(nil), error(nil)
			for _, f := range offsets(b) {
				if _, err = m.AddField(f[0], f[1], f[2], f[3]); err != nil {
					break
				}
			}
			for _, f := range offsets(b) {
				// Copied fields have lost their blanks; they come back for the count.
				if _, errCopied = copied.AddCopy(b[f[0]:f[0]+f[1]], b[f[0]+f[1]+2:f[2]+f[3]]); errCopied != nil {
					break
				}
			}
			if !errors.Is(err, tt.want) || !errors.Is(errCopied, tt.want) {
				t.Errorf("errors %v and %v, not %v", err, errCopied, tt.want)
			}
			if m.Len() != tt.taken || copied.Len() != tt.taken {
				t.Errorf("%d and %d fields, not %d", m.Len(), copied.Len(), tt.taken)
			}
			if err := m.AddName("x-own", "v"); err != nil {
				t.Errorf("what belay adds itself: %v", err)
			}
		})
	}
}

func TestLimitsSurvive(t *testing.T) {
	var m Map
	m.SetLimits(Limits{Fields: 1})
	for range 2 {
		b := []byte("a: 1\r\nb: 2\r\n")
		m.Reset(b)
		_, err := m.AddField(0, 1, 3, 1)
		_, err2 := m.AddField(6, 1, 9, 1)
		if err != nil || err2 != ErrTooManyFields {
			t.Errorf("%v, %v", err, err2)
		}
		m.Release()
	}
}

func TestSettersStopAtTheCeiling(t *testing.T) {
	var m Map
	for i := range maxEntries {
		if err := m.AddName("x-a", ""); err != nil {
			t.Fatalf("field %d: %v", i, err)
		}
	}
	if err := m.AddName("x-a", ""); err != ErrTooManyFields {
		t.Errorf("AddName: %v", err)
	}
	if err := m.SetString(Server, ""); err != ErrTooManyFields {
		t.Errorf("Set: %v", err)
	}
	n := 0
	m.ValuesName([]byte("X-A"), func([]byte) bool { n++; return true })
	if n != maxEntries || m.GetName("x-b") != nil {
		t.Errorf("%d values", n)
	}
	if n := m.RemoveName([]byte("x-a")); n != maxEntries || m.Len() != 0 {
		t.Errorf("removed %d", n)
	}
}

func TestMapCopyIsIndependent(t *testing.T) {
	head := []byte("Host: a\r\nx-b: 2\r\n")
	var m, c Map
	load(&m, head, offsets(head))
	lent := []byte("lent")
	_ = m.SetRef(Server, lent)
	m.RemoveName([]byte("x-b"))
	c.CopyFrom(&m)
	clear(head)
	clear(lent)
	m.Release()
	if got := string(c.AppendTo(nil)); got != "Host: a\r\nServer: lent\r\n" {
		t.Errorf("copy is %q", got)
	}
	if string(c.Get(Server)) != "lent" || string(c.Get(Host)) != "a" {
		t.Error("copy lost its handles")
	}
}

func TestMapIterators(t *testing.T) {
	m := parsed(t, "Host: a\r\nVia: b\r\nx-c: d\r\nvia: e\r\nx-c: f\r\n")
	var got []string
	for name, value := range m.All() {
		if len(got) == 3 {
			break
		}
		got = append(got, fmt.Sprintf("%s=%s", name, value))
	}
	if want := "Host=a Via=b x-c=d"; strings.Join(got, " ") != want {
		t.Errorf("got %v", got)
	}
	for _, name := range []string{"via", "x-c"} {
		n := 0
		m.ValuesName([]byte(name), func([]byte) bool { n++; return false })
		if n != 1 {
			t.Errorf("%s: %d values after the first was enough", name, n)
		}
	}
	m.Each(func(_ Handle, name, _ []byte) bool { m.RemoveName(bytes.Clone(name)); return true })
	if m.Len() != 0 {
		t.Errorf("%d fields left", m.Len())
	}
}

// A map that a long-lived holder sets again and again must not grow.
func TestSlabIsBounded(t *testing.T) {
	var m Map
	_ = m.AddName("x-keep", "kept")
	kept := m.GetName("x-keep")
	for i := range 100000 {
		m.SetInt(ContentLength, int64(i))
		_ = m.SetString(Server, "some name of a server")
		_ = m.SetRef(Via, []byte("proxy"))
		m.Remove(Via)
		_ = m.AddName("x-b", "v")
		m.RemoveName([]byte("x-b"))
	}
	// Two lent values in turn, so that the one removed is never the last area.
	for i := range 10 * maxAreas {
		_ = m.SetRef([]Handle{Age, Date}[i%2], []byte("lent"))
		m.Remove([]Handle{Age, Date}[(i+1)%2])
	}
	m.Remove(Date)
	if m.total > 4*maxChunk || len(m.areas) > maxAreas || cap(m.ents) > 2*firstCap {
		t.Errorf("%d bytes in %d areas, %d entries", m.total, len(m.areas), cap(m.ents))
	}
	if got := string(m.AppendTo(nil)); got != "x-keep: kept\r\nContent-Length: 99999\r\nServer: some name of a server\r\n" || string(kept) != "kept" {
		t.Errorf("map is %q, first view %q", got, kept)
	}
	_ = m.AddName("x-big", strings.Repeat("b", 1<<20))
	for i := range 5000 {
		_ = m.AddName(fmt.Sprintf("x-%d", i), "v")
		_ = m.GetName("x-none")
	}
	m.Reset(nil)
	if kept := m.total + cap(m.ents)*24 + cap(m.index)*4 + cap(m.areas)*24; kept > maxChunk+32<<10 {
		t.Errorf("%d bytes kept after Reset", kept)
	}
}

func TestPutInt(t *testing.T) {
	ints := []int64{0, 1, -1, math.MaxInt64, math.MinInt64}
	for p := int64(1); p < math.MaxInt64/10; p *= 10 {
		ints = append(ints, p-1, p, p+1, -p, 9*p, 1-p)
	}
	for shift := range 63 {
		ints = append(ints, 1<<shift-1, 1<<shift, -1<<shift)
	}
	for _, n := range ints {
		var b [20]byte
		if got := string(b[:putInt(b[:], n)]); got != strconv.FormatInt(n, 10) {
			t.Errorf("%d is written as %q", n, got)
		}
	}
}
