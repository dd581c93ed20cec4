package transport

import (
	"crypto/tls"
	"io"
	"reflect"
	"testing"
)

// TestTLSShrink at every pause of a dripping peer: partial records and
// messages and decrypted bytes must stay; an idle connection keeps nothing.
func TestTLSShrink(t *testing.T) {
	if !connBuffers.known {
		t.Fatal("crypto/tls has changed: idle TLS connections keep their buffers")
	}
	onModes(t, func(t *testing.T, r rig, m mode) {
		s, peer, _ := m.pair(t, r, 11)
		r.do(func() { s.hook = func() { s.t.Shrink() } })
		shake(t, r, s, peer)
		const n = 40_000
		done := make(chan struct{})
		go func() {
			defer close(done)
			peer.Write(payload(n))
		}()
		for ended := false; !ended; {
			r.do(func() {
				if s.t.Readable() {
					k, _ := s.t.Read(s.buf[:5])
					s.got.Write(s.buf[:k])
				}
				s.t.Shrink()
			})
			select {
			case <-done:
				ended = true
			default:
			}
		}
		r.until(t, "all data", func() bool { return s.got.Len() == n })
		r.do(func() {
			if s.got.String() != string(payload(n)) {
				t.Error("the data changed")
			}
			s.t.Shrink()
			c := reflect.ValueOf(s.t.conn).Elem()
			for _, name := range []string{"rawInput", "hand"} {
				if size := c.FieldByName(name).FieldByName("buf").Cap(); size != 0 {
					t.Errorf("%s keeps %d bytes", name, size)
				}
			}
			if !c.FieldByName("input").FieldByName("s").IsNil() {
				t.Error("input keeps its record")
			}
		})
		r.send(s, []byte("and on"), true)
		if got, err := io.ReadAll(peer); string(got) != "and on" || err != nil {
			t.Errorf("the peer got %q, %v", got, err)
		}
	})
	r := startRig(t)
	s, peer, raw, k := r.sealed(t, false) // a message in two records, a pause between
	defer peer.Close()
	raw.Write(k.record(22, []byte{24, 0}))
	r.do(func() { s.t.Shrink() })
	raw.Write(k.record(22, []byte{0, 1, 0}))
	k.secret = k.expand("traffic upd", 32)
	k.setKeys()
	raw.Write(k.record(23, []byte("after")))
	r.until(t, "data", func() bool { return s.got.String() == "after" })
}

// TestShrinkBeforeHandshake does nothing.
func TestShrinkBeforeHandshake(t *testing.T) {
	r := startRig(t)
	s, peer, _ := modes[1].pair(t, r, 0)
	r.do(func() { s.t.Shrink() })
	shake(t, r, s, peer)
	r.do(func() {
		s.t.Close()
		s.t.Shrink()
		if s.t.State() != nil && s.t.State().Version != tls.VersionTLS13 {
			t.Error("a state after the end")
		}
	})
}
