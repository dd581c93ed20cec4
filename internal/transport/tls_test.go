package transport

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"belay/internal/eventloop"
)

// TestTLSExchange sends data both ways at once, in pieces down to a byte, with
// half-closes; it guards what we rely on in crypto/tls against a Go upgrade.
func TestTLSExchange(t *testing.T) {
	for _, size := range []int{1, 7, 1000, 0} {
		n := 300_000
		if size == 1 {
			n = 1000
		} else if size == 7 {
			n = 7000
		}
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			onModes(t, func(t *testing.T, r rig, m mode) {
				s, peer, _ := m.pair(t, r, size)
				r.send(s, payload(n+1), true)
				if got := exchange(t, peer, payload(n)); !bytes.Equal(got, payload(n+1)) {
					t.Errorf("the peer got %d bytes, want %d", len(got), n+1)
				}
				wantEnd(t, r, s, io.EOF)
				r.do(func() {
					if s.broken != nil || !bytes.Equal(s.got.Bytes(), payload(n)) {
						t.Errorf("got %d bytes, want %d; writing: %v", s.got.Len(), n, s.broken)
					}
				})
				r.wantIdle(t)
			})
		})
	}
}

// TestTLSHalfClose: each end's close_notify ends one direction only.
func TestTLSHalfClose(t *testing.T) {
	onModes(t, func(t *testing.T, r rig, m mode) {
		s, peer, raw := m.pair(t, r, 0)
		shake(t, r, s, peer)
		peer.CloseWrite()
		wantEnd(t, r, s, io.EOF)
		r.send(s, []byte("still here"), true)
		if got, err := io.ReadAll(peer); string(got) != "still here" || err != nil {
			t.Errorf("the peer got %q, %v", got, err)
		}
		if n, err := raw.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("after close_notify the socket gave %d bytes, %v; want shutdown(2)", n, err)
		}
	})
	onModes(t, func(t *testing.T, r rig, m mode) {
		s, peer, _ := m.pair(t, r, 0)
		shake(t, r, s, peer)
		r.send(s, nil, true)
		if got, err := io.ReadAll(peer); len(got) != 0 || err != nil {
			t.Errorf("the peer got %q, %v", got, err)
		}
		peer.Write([]byte("late"))
		r.until(t, "late data", func() bool { return s.got.String() == "late" })
	})
}

func TestTLSTruncated(t *testing.T) {
	for _, partial := range []int{0, 3, 10} {
		onModes(t, func(t *testing.T, r rig, m mode) {
			s, peer, raw := m.pair(t, r, 0)
			shake(t, r, s, peer)
			peer.Write([]byte("cut"))
			raw.Write([]byte{23, 3, 3, 0, 100, 1, 2, 3, 4, 5}[:partial])
			raw.Close()
			wantEnd(t, r, s, ErrTruncated)
			r.do(func() {
				if s.got.String() != "cut" {
					t.Errorf("got %q", &s.got)
				}
			})
		})
	}
}

func TestTLSReset(t *testing.T) {
	r := startRig(t)
	fd, peerFD := tcpPair(t)
	s := r.serve(t, fd, serverConfig(tls.VersionTLS13))
	c := blocking(t, peerFD)
	peer := tls.Client(c, clientConfig(tls.VersionTLS13))
	shake(t, r, s, peer)
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
	wantEnd(t, r, s, syscall.ECONNRESET)
}

// TestTLSBackPressure: a peer that does not read stops the writer; what waits
// is bounded; Out comes when it reads; not a byte is lost.
func TestTLSBackPressure(t *testing.T) {
	onModes(t, func(t *testing.T, r rig, m mode) {
		s, peer, _ := m.pair(t, r, 0)
		shake(t, r, s, peer)
		want := payload(4 << 20)
		r.send(s, want, true)
		r.do(func() {
			if len(s.left) == 0 {
				t.Fatal("the socket took everything")
			}
			if n, err := s.t.Write([]byte("x"), nil); n != 0 || err != nil {
				t.Errorf("Write to a full socket = %d, %v", n, err)
			}
			if used, _ := r.BufferStats(); used > 64<<10 {
				t.Errorf("%d bytes of buffers for a slow reader", used)
			}
			s.outs = 0
		})
		got, err := io.ReadAll(peer)
		if !bytes.Equal(got, want) || err != nil {
			t.Errorf("the peer got %d bytes, %v", len(got), err)
		}
		r.do(func() {
			if s.outs == 0 {
				t.Error("no Out")
			}
		})
		r.wantIdle(t)
	})
}

// TestTLSSlowOwner: an owner that does not read keeps at most a buffer, is told
// by Readable that there is something, and gets everything later.
func TestTLSSlowOwner(t *testing.T) {
	onModes(t, func(t *testing.T, r rig, m mode) {
		s, peer, _ := m.pair(t, r, 0)
		shake(t, r, s, peer)
		r.do(func() { s.paused = true })
		done := make(chan struct{})
		go func() {
			defer close(done)
			exchange(t, peer, payload(1<<20))
		}()
		r.until(t, "data", func() bool { return s.t.Readable() })
		for range 40 {
			r.do(func() {
				n, err := s.t.Read(s.buf[:10])
				s.got.Write(s.buf[:n])
				if err != nil && err != ErrAgain {
					t.Error(err)
				}
				if n > 0 && !s.t.Readable() {
					t.Error("not readable with decrypted bytes left")
				}
				if used, _ := r.BufferStats(); used > 64<<10 {
					t.Errorf("%d bytes of buffers", used)
				}
			})
		}
		r.do(func() {
			s.paused = false
			s.pump()
		})
		wantEnd(t, r, s, io.EOF)
		r.do(func() {
			if !bytes.Equal(s.got.Bytes(), payload(1<<20)) {
				t.Errorf("got %d bytes", s.got.Len())
			}
		})
		r.send(s, nil, true)
		<-done
	})
}

// TestTLSUnsent: sealed bytes that the socket did not take count as well.
func TestTLSUnsent(t *testing.T) {
	onModes(t, func(t *testing.T, r rig, m mode) {
		s, peer, _ := m.pair(t, r, 0)
		shake(t, r, s, peer)
		taken := 0
		r.do(func() {
			p := payload(20_000)
			for {
				n, err := s.t.Write(p, nil)
				if taken += n; n == 0 || err != nil {
					break
				}
			}
			if n, raw := s.t.Unsent(), s.t.raw.Unsent(); n <= raw || raw == 0 {
				t.Errorf("%d bytes unsent, %d of them in the socket", n, raw)
			}
		})
		if n, err := io.CopyN(io.Discard, peer, int64(taken)); err != nil {
			t.Errorf("the peer got %d bytes of %d, %v", n, taken, err)
		}
		r.until(t, "all is confirmed", func() bool { return s.t.Unsent() == 0 })
		r.do(s.t.Close)
	})
}

// TestTLSCloseLingers: what Write took reaches a slow peer after Close.
func TestTLSCloseLingers(t *testing.T) {
	onModes(t, func(t *testing.T, r rig, m mode) {
		s, peer, _ := m.pair(t, r, 0)
		shake(t, r, s, peer)
		taken := 0
		r.do(func() {
			p := payload(20_000)
			for {
				n, err := s.t.Write(p, nil)
				if taken += n; n == 0 || err != nil {
					break
				}
			}
			s.t.Close()
			s.t.Close()
			if r.h.Lingering() != 1 {
				t.Errorf("%d lingering", r.h.Lingering())
			}
		})
		if got, err := io.ReadAll(peer); len(got) != taken || err != nil {
			t.Errorf("the peer got %d bytes of %d, %v", len(got), taken, err)
		}
		r.until(t, "the end of lingering", func() bool { return r.h.Lingering() == 0 })
		r.wantIdle(t)
	})
}

// TestTLSLingerEnds with a peer that goes away, and when its time is over.
func TestTLSLingerEnds(t *testing.T) {
	for name, end := range map[string]func(r rig, s *stream, raw net.Conn){
		"gone": func(_ rig, _ *stream, raw net.Conn) { raw.Close() },
		"time": func(r rig, s *stream, _ net.Conn) {
			r.do(func() {
				left := s.t.raw.owner.(*straggler)
				if at := left.timer.At() - r.Now(); at <= 0 || at > lingerTime {
					t.Errorf("it may take %d ns", at)
				}
				left.HandleTimer(&left.timer)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := startRig(t)
			s, peer, raw := modes[1].pair(t, r, 0)
			shake(t, r, s, peer)
			r.send(s, payload(4<<20), false)
			r.do(s.t.Close)
			end(r, s, raw)
			r.until(t, "the end of lingering", func() bool { return r.h.Lingering() == 0 })
			r.wantIdle(t)
		})
	}
}

// TestTLSCloseInsideReady, at every event from the first on.
func TestTLSCloseInsideReady(t *testing.T) {
	onModes(t, func(t *testing.T, r rig, m mode) {
		for at := range 6 {
			for _, end := range []func(*TLS){(*TLS).Close, (*TLS).Reset} {
				s, peer, raw := m.pair(t, r, 400)
				r.do(func() {
					s.hook = func() {
						if at--; at < 0 {
							end(s.t)
						}
					}
				})
				peer.Handshake()
				peer.Write(payload(2000))
				io.Copy(io.Discard, peer)
				raw.Close()
				r.do(s.t.Close)
			}
		}
		r.until(t, "all closed", func() bool { return r.h.Lingering() == 0 })
		r.wantIdle(t)
	})
}

func TestTLSAlive(t *testing.T) {
	onModes(t, func(t *testing.T, r rig, m mode) {
		s, peer, raw := m.pair(t, r, 0)
		shake(t, r, s, peer)
		r.do(func() {
			for range 2 {
				if !s.t.Alive() {
					t.Error("a quiet connection is not alive")
				}
			}
			s.paused = true
		})
		peer.Write([]byte("ab"))
		r.until(t, "data", func() bool { return s.t.Readable() })
		r.do(func() {
			for range 2 {
				if s.t.Alive() {
					t.Error("alive with data")
				}
			}
			n, err := s.t.Read(s.buf[:])
			m, _ := s.t.Read(s.buf[n:])
			if string(s.buf[:n+m]) != "ab" || err != nil {
				t.Errorf("Read = %q, %v", s.buf[:n+m], err)
			}
			if !s.t.Alive() {
				t.Error("not alive after all is read")
			}
		})
		raw.Close()
		r.until(t, "death", func() bool { return !s.t.Alive() })
	})
}

// TestTLSHead: what a listener read of the hello comes before the socket's
// bytes, be it part of it, all of it, or more.
func TestTLSHead(t *testing.T) {
	for _, size := range []int{0, 1, 100, 64 << 10} {
		r := startRig(t)
		fd, peerFD := socketPair(t)
		peer := tls.Client(blocking(t, peerFD), clientConfig(tls.VersionTLS13))
		done := make(chan error, 1)
		go func() {
			_, err := peer.Write([]byte("hello"))
			done <- err
		}()
		s := &stream{}
		raw := accept(t, r.loop, fd, s)
		var head []byte
		r.until(t, "the hello", func() bool {
			buf := r.Get(size)
			if size == 0 {
				head = buf[:0]
				return true
			}
			n, err := raw.Read(buf[:min(size, len(buf))])
			if err != nil {
				r.Put(buf)
				return false
			}
			head = buf[:n]
			return true
		})
		r.do(func() {
			s.t = AcceptTLS(r.h, raw, head, serverConfig(tls.VersionTLS13))
			s.pump()
		})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		r.until(t, "data", func() bool { return s.got.String() == "hello" })
		r.wantIdle(t)
		r.do(s.t.Close)
	}
}

// TestTLSSocketMethods before and beside the stream.
func TestTLSSocketMethods(t *testing.T) {
	r := startRig(t)
	s, peer, _ := modes[1].pair(t, r, 0)
	r.do(func() {
		if err := s.t.CloseWrite(); err == nil {
			t.Error("CloseWrite before the handshake")
		}
		if n, err := s.t.Read(s.buf[:]); n != 0 || err != ErrAgain || s.t.Readable() {
			t.Errorf("Read before the handshake = %d, %v", n, err)
		}
		if n, err := s.t.Write([]byte("x"), nil); n != 0 || err != nil {
			t.Errorf("Write before the handshake = %d, %v", n, err)
		}
	})
	shake(t, r, s, peer)
	var next watch
	r.do(func() {
		s.t.SetFirst(true)
		s.t.SetOwner(&next)
		if s.t.Descriptor() != -1 {
			t.Error("a descriptor")
		}
	})
	peer.Write([]byte("x"))
	r.until(t, "the event", func() bool { return next.seen&eventloop.In != 0 })
}

// TestTLSWriteError: a peer that is gone is told by Write.
func TestTLSWriteError(t *testing.T) {
	onModes(t, func(t *testing.T, r rig, m mode) {
		s, peer, raw := m.pair(t, r, 0)
		shake(t, r, s, peer)
		raw.Close()
		r.until(t, "an error", func() bool {
			_, err := s.t.Write([]byte("x"), nil)
			return errors.Is(err, syscall.EPIPE)
		})
	})
}

var _ Socket = (*TLS)(nil)
