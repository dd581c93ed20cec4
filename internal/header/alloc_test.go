package header

import "testing"

func gate(t *testing.T, name string, f func()) {
	t.Helper()
	f()
	f()
	if n := testing.AllocsPerRun(200, f); n != 0 {
		t.Errorf("%s: %v allocations", name, n)
	}
}

// A warm map allocates nothing from parsing to serialising.
func TestNoAllocations(t *testing.T) {
	head := []byte(browserHead)
	o := offsets(head)
	m, copied := new(Map), new(Map)
	buf := make([]byte, 0, 1<<16)
	ip := []byte("192.0.2.17")
	name, prefix := []byte("x-custom-tracking"), "x-custom"
	n := 0
	gate(t, "request", func() {
		load(m, head, o)
		n += len(m.Get(Host)) + len(m.GetName("x-custom-tracking")) + len(m.GetNameBytes(name)) + m.Count(Cookie)
		m.Remove(Connection)
		_ = m.Append(XForwardedFor, ", ", ip)
		_ = m.SetRef(XForwardedProto, ip)
		_ = m.SetString(XRequestID, "0123456789abcdef0123456789abcdef")
		_ = m.AddName("X-Added", "by belay")
		_ = m.SetName("X-Added", "by belay again")
		m.SetInt(ContentLength, 1<<40)
		buf = m.AppendTo(buf[:0])
		m.RemoveName(name)
		m.RemovePrefix(prefix)
	})
	gate(t, "copy", func() { copied.CopyFrom(m); n += copied.Len() })
	gate(t, "iterate", func() {
		m.Each(func(_ Handle, name, value []byte) bool { n += len(name) + len(value); return true })
		for name, value := range m.All() {
			n += len(name) + len(value)
		}
		m.ValuesName(name, func(v []byte) bool { n += len(v); return true })
		buf = m.AppendJoined(buf[:0], Cookie)
	})

	var large []byte
	for i := range 60 {
		large = append(large, 'x', '-', byte('a'+i/10), byte('0'+i%10), ':', ' ', 'v', '\r', '\n')
	}
	lo := offsets(large)
	gate(t, "index and several chunks", func() {
		load(m, large, lo)
		n += len(m.GetName("x-c3"))
		for range 20 {
			_ = m.AddName("x-more", browserHead[:5])
			_ = m.SetString(Server, "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789")
		}
		n += m.RemoveName([]byte("x-more"))
		buf = m.AppendTo(buf[:0])
	})
	if n == 0 {
		t.Error("nothing was found")
	}
}
