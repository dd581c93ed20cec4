package header

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// model is what a Map shall do, written without a thought of speed.
type model []pair

type pair struct{ name, value string }

func (m model) get(name string) (string, bool) {
	for _, p := range m {
		if strings.EqualFold(p.name, name) {
			return p.value, true
		}
	}
	return "", false
}

func (m *model) remove(match func(name string) bool) int {
	n := len(*m)
	*m = slices.DeleteFunc(*m, func(p pair) bool { return match(p.name) })
	return n - len(*m)
}

func (m *model) set(name, value string) {
	seen := false
	*m = slices.DeleteFunc(*m, func(p pair) bool {
		again := seen && strings.EqualFold(p.name, name)
		seen = seen || strings.EqualFold(p.name, name)
		return again
	})
	for i, p := range *m {
		if strings.EqualFold(p.name, name) {
			(*m)[i].value = value
			return
		}
	}
	*m = append(*m, pair{name, value})
}

func (m *model) appendValue(name, delim, value string) {
	for i, p := range *m {
		if strings.EqualFold(p.name, name) {
			(*m)[i].value += delim + value
			return
		}
	}
	*m = append(*m, pair{name, value})
}

func (m model) wire() string {
	var b strings.Builder
	for _, p := range m {
		b.WriteString(p.name + ": " + p.value + "\r\n")
	}
	return b.String()
}

// script runs operations read from data on a Map and on the model.
type script struct {
	t     *testing.T
	data  []byte
	m     *Map
	model model
	long  bool     // never begin another message
	views []handed // slices handed out since the last Reset
}

type handed struct {
	got  []byte
	want string
}

func (s *script) next() byte {
	if len(s.data) == 0 {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return b
}

// name returns one of few registered and many other names, in any case.
func (s *script) name() string {
	b := s.next()
	var n string
	switch b % 4 {
	case 0:
		n = Handle(1 + b/4%7).String() // Host is Reject, Content-Length Separate
	case 1:
		n = fmt.Sprintf("x-a-name-of-more-than-sixteen-bytes-%d", b/4)
	default:
		n = fmt.Sprintf("dk-%d", b/4)
	}
	if b&0x80 != 0 {
		n = strings.ToUpper(n)
	}
	return n
}

func (s *script) value() string {
	b := s.next()
	if b == 0xff {
		return strings.Repeat("long", 3000)
	}
	return strings.Repeat("v", int(b%40))
}

// parse begins a new message with fields in a base, which moves half way.
func (s *script) parse() {
	s.model, s.views = nil, nil
	var head []byte
	var fields [][4]int
	for range s.next() % 64 {
		name, value, blanks := s.name(), s.value(), int(s.next()%3)
		if _, dup := s.model.get(name); dup && strings.EqualFold(name, "Host") {
			continue
		}
		at := len(head)
		head = append(head, name+":"+strings.Repeat(" ", blanks)+value+"\r\n"...)
		fields = append(fields, [4]int{at, len(name), at + len(name) + 1 + blanks, len(value)})
		s.model = append(s.model, pair{name, value})
	}
	s.m.Reset(head)
	for i, f := range fields {
		if i == len(fields)/2 {
			moved := bytes.Clone(head)
			clear(head)
			head = moved
			s.m.Rebase(head)
		}
		if _, err := s.m.AddField(f[0], f[1], f[2], f[3]); err != nil {
			s.t.Fatalf("AddField %q: %v", head[f[0]:f[2]+f[3]], err)
		}
	}
}

func (s *script) step() {
	op, name := s.next()%16, s.name()
	h := Lookup([]byte(name))
	switch op {
	case 0, 1, 2:
		s.add(name, s.value())
	case 3, 4:
		v := s.value()
		s.check(s.m.SetName(name, v))
		s.model.set(name, v)
	case 5, 6:
		got := s.m.RemoveName([]byte(name))
		if want := s.model.remove(func(n string) bool { return strings.EqualFold(n, name) }); got != want {
			s.t.Fatalf("RemoveName %q removed %d, not %d", name, got, want)
		}
	case 7:
		prefix := name[:len(name)*int(s.next()%5)/4]
		if prefix == "" {
			return
		}
		got := s.m.RemovePrefix(prefix)
		want := s.model.remove(func(n string) bool {
			return len(n) >= len(prefix) && strings.EqualFold(n[:len(prefix)], prefix)
		})
		if got != want {
			s.t.Fatalf("RemovePrefix %q removed %d, not %d", prefix, got, want)
		}
	case 8:
		if s.long {
			return
		}
		c := new(Map)
		c.CopyFrom(s.m)
		*s.m, *c = *c, Map{}
	case 9:
		if !s.long {
			s.parse()
		}
	default:
		if h != 0 {
			s.byHandle(op, h)
		}
	}
}

func (s *script) byHandle(op byte, h Handle) {
	v := s.value()
	switch op {
	case 10:
		s.check(s.m.SetString(h, v))
		s.model.set(h.String(), v)
	case 11:
		s.check(s.m.SetRef(h, []byte(v)))
		s.model.set(h.String(), v)
	case 12:
		s.m.SetInt(h, int64(len(v))-20)
		s.model.set(h.String(), fmt.Sprint(len(v)-20))
	case 13:
		s.check(s.m.Append(h, ", ", []byte(v)))
		s.model.appendValue(h.String(), ", ", v)
	case 14:
		s.m.Remove(h)
		s.model.remove(func(n string) bool { return strings.EqualFold(n, h.String()) })
	}
}

func (s *script) add(name, value string) {
	_, dup := s.model.get(name)
	err := s.m.AddName(name, value)
	if dup && strings.EqualFold(name, "Host") {
		if err != ErrDuplicate {
			s.t.Fatalf("second Host: %v", err)
		}
		return
	}
	s.check(err)
	s.model = append(s.model, pair{name, value})
}

func (s *script) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// compare looks at everything the map can tell.
func (s *script) compare() {
	t := s.t
	if got, want := string(s.m.AppendTo([]byte("+"))), "+"+s.model.wire(); got != want {
		t.Fatalf("wire is\n%q, not\n%q", got, want)
	}
	if s.m.Len() != len(s.model) || s.m.ByteSize() != len(s.model.wire()) {
		t.Fatalf("%d fields of %d bytes, not %d of %d", s.m.Len(), s.m.ByteSize(), len(s.model), len(s.model.wire()))
	}
	i := 0
	s.m.Each(func(h Handle, name, value []byte) bool {
		if h != Lookup(name) || string(name) != s.model[i].name || string(value) != s.model[i].value {
			t.Fatalf("field %d is %d %q %q, not %v", i, h, name, value, s.model[i])
		}
		i++
		return true
	})
	for _, name := range []string{s.name(), s.name(), "dk-1", "X-A-Name-of-more-than-sixteen-bytes-3", "connection", "Host"} {
		s.compareName(name)
	}
	for _, v := range s.views {
		if string(v.got) != v.want {
			t.Fatalf("a slice handed out earlier changed from %q to %q", v.want, v.got)
		}
	}
}

func (s *script) compareName(name string) {
	t := s.t
	want, ok := s.model.get(name)
	got := s.m.GetName(name)
	if (got != nil) != ok || string(got) != want {
		t.Fatalf("GetName %q is %q, not %q", name, got, want)
	}
	if got != nil && len(s.views) < 50 {
		s.views = append(s.views, handed{got, want})
	}
	var all []string
	s.m.ValuesName([]byte(name), func(v []byte) bool { all = append(all, string(v)); return true })
	var wantAll []string
	for _, p := range s.model {
		if strings.EqualFold(p.name, name) {
			wantAll = append(wantAll, p.value)
		}
	}
	if !slices.Equal(all, wantAll) {
		t.Fatalf("values of %q are %q, not %q", name, all, wantAll)
	}
	if h := Lookup([]byte(name)); h != 0 {
		if string(s.m.Get(h)) != want || s.m.Has(h) != ok || s.m.Count(h) != len(wantAll) {
			t.Fatalf("%v is %q (%d), not %q (%d)", h, s.m.Get(h), s.m.Count(h), want, len(wantAll))
		}
	}
}

// run applies data to a map, comparing after each every-th operation.
func run(t *testing.T, data []byte, every int, long bool) {
	s := &script{t: t, data: data, m: new(Map), long: long}
	for i := 1; len(s.data) > 0; i++ {
		s.step()
		if i%every == 0 {
			s.compare()
		}
	}
	s.compare()
}

// noise returns n bytes, the same for the same seed. With adding, most
// operations add or set fields.
func noise(n int, seed uint32, adding bool) []byte {
	b := make([]byte, n)
	x := seed + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
		if adding && i%3 == 0 {
			b[i] %= 6
		}
	}
	return b
}

// Long runs of operations get through indexing, growth and sweeping.
func TestMapAgainstModel(t *testing.T) {
	for seed := range uint32(16) {
		run(t, noise(30000, seed, seed%2 == 0), 17, seed%4 < 2)
	}
}

func FuzzMap(f *testing.F) {
	f.Add([]byte{9, 0, 20, 1, 2, 3})
	for seed := range uint32(8) {
		f.Add(noise(200, seed, seed%2 == 0))
	}
	f.Fuzz(func(t *testing.T, data []byte) { run(t, data[:min(len(data), 400)], 1, false) })
}
