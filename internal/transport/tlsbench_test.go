package transport

import (
	"crypto/tls"
	"fmt"
	"runtime"
	"testing"
	"time"
)

// duo is a server and a client of ours on one worker, moved step by step by
// whoever calls, inside do.
type duo struct {
	server, client *stream
}

func newDuo(b testing.TB, r rig, server, client *tls.Config) duo {
	fd, peer := socketPair(b)
	d := duo{&stream{}, &stream{}}
	a, err := Accept(r.Worker, fd, d.server)
	if err != nil {
		b.Fatal(err)
	}
	c, err := Accept(r.Worker, peer, d.client)
	if err != nil {
		b.Fatal(err)
	}
	d.server.t = AcceptTLS(r.h, a, nil, server)
	d.client.t = DialTLS(r.h, c, client)
	return d
}

// step lets one end see what is there.
func (s *stream) step(r rig) time.Duration {
	r.h.spent = 0
	s.t.raw.flags |= rawReadable | rawWritable
	began := time.Now()
	s.pump()
	return time.Since(began)
}

// shake returns the time that the server's end took.
func (d duo) shake(b testing.TB, r rig) (took time.Duration) {
	for !d.server.open || !d.client.open {
		d.client.step(r)
		took += d.server.step(r)
		if d.server.failed != nil || d.client.failed != nil {
			b.Fatal(d.server.failed, d.client.failed)
		}
	}
	d.client.step(r) // the ticket
	return took
}

func (d duo) close() {
	d.client.t.Close()
	d.server.t.Close()
}

func BenchmarkTLSHandshake(b *testing.B) {
	for _, group := range []tls.CurveID{tls.X25519, tls.X25519MLKEM768} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, resumed := range []bool{false, true} {
				if version == tls.VersionTLS12 && group == tls.X25519MLKEM768 {
					continue
				}
				kind := "full"
				if resumed {
					kind = "resumed"
				}
				b.Run(fmt.Sprintf("%v/%s/%s", group, tls.VersionName(version), kind), func(b *testing.B) {
					server, client := serverConfig(version), clientConfig(version)
					server.CurvePreferences, client.CurvePreferences = []tls.CurveID{group}, []tls.CurveID{group}
					if resumed {
						client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
					}
					benchHandshake(b, server, client)
				})
			}
		}
	}
}

func benchHandshake(b *testing.B, server, client *tls.Config) {
	r := startRig(b)
	b.ReportAllocs()
	r.do(func() {
		d := newDuo(b, r, server, client)
		d.shake(b, r)
		d.close()
		var took time.Duration
		for b.Loop() {
			d := newDuo(b, r, server, client)
			took += d.shake(b, r)
			d.close()
		}
		b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "server-ns/op")
	})
}

// BenchmarkTLSData moves messages from one end to the other; allocations are of
// both.
func BenchmarkTLSData(b *testing.B) {
	for _, small := range []bool{true, false} { // crypto/tls's growing records, or full ones
		for _, size := range []int{100, 16 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("dynamic=%t/%d", small, size), func(b *testing.B) {
				r := startRig(b)
				server, client := serverConfig(tls.VersionTLS13), clientConfig(tls.VersionTLS13)
				server.DynamicRecordSizingDisabled = !small
				b.SetBytes(int64(size))
				b.ReportAllocs()
				r.do(func() { benchData(b, r, newDuo(b, r, server, client), size) })
			})
		}
	}
}

// BenchmarkTLSFirstBytes is the first answer on a connection, where crypto/tls
// would make its records grow from one segment on.
func BenchmarkTLSFirstBytes(b *testing.B) {
	for _, small := range []bool{true, false} {
		b.Run(fmt.Sprintf("dynamic=%t", small), func(b *testing.B) {
			r := startRig(b)
			server, client := serverConfig(tls.VersionTLS13), clientConfig(tls.VersionTLS13)
			server.DynamicRecordSizingDisabled = !small
			p, buf := payload(64<<10), make([]byte, 64<<10)
			var writing, reading time.Duration
			r.do(func() {
				for b.Loop() {
					d := newDuo(b, r, server, client)
					d.shake(b, r)
					began := time.Now()
					d.server.t.Write(p, nil)
					writing += time.Since(began)
					d.client.t.raw.flags |= rawReadable
					began = time.Now()
					for d.client.t.Readable() {
						d.client.t.Read(buf)
					}
					reading += time.Since(began)
					d.close()
				}
			})
			b.ReportMetric(float64(writing.Nanoseconds())/float64(b.N), "write-ns/op")
			b.ReportMetric(float64(reading.Nanoseconds())/float64(b.N), "read-ns/op")
		})
	}
}

func benchData(b *testing.B, r rig, d duo, size int) {
	d.shake(b, r)
	defer d.close()
	p, buf := payload(size), make([]byte, 64<<10)
	var writing, reading time.Duration
	for b.Loop() {
		d.server.t.raw.flags |= rawWritable
		for sent, got := 0, 0; got < size; {
			began := time.Now()
			n, err := d.server.t.Write(p[sent:], nil)
			sent += n
			writing += time.Since(began)
			d.client.t.raw.flags |= rawReadable
			began = time.Now()
			for err == nil && got < size && d.client.t.Readable() {
				n, err = d.client.t.Read(buf)
				got += n
			}
			reading += time.Since(began)
			if err != nil && err != ErrAgain {
				b.Fatal(err)
			}
			d.server.t.raw.flags |= rawWritable
			d.server.t.flush()
		}
	}
	b.ReportMetric(float64(writing.Nanoseconds())/float64(b.N), "write-ns/op")
	b.ReportMetric(float64(reading.Nanoseconds())/float64(b.N), "read-ns/op")
}

// BenchmarkTLSIdle tells what an open connection retains on the heap after a
// request of size bytes and an answer of the same.
func BenchmarkTLSIdle(b *testing.B) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, client := range []bool{false, true} {
			for _, size := range []int{0, 100, 16 << 10, 256 << 10} {
				b.Run(fmt.Sprintf("%s/client=%t/%d", tls.VersionName(version), client, size), func(b *testing.B) {
					for b.Loop() {
						b.ReportMetric(idleBytes(b, version, client, size), "B/conn")
					}
				})
			}
		}
	}
}

func idleBytes(b *testing.B, version uint16, client bool, size int) (perConn float64) {
	r := startRig(b)
	const n = 400
	server, dialer := serverConfig(version), clientConfig(version)
	kept := make([]*TLS, 0, n)
	raws := make([]*Raw, 0, n)
	before := heap()
	r.do(func() {
		owner := &watch{}
		for range n {
			d := newDuo(b, r, server, dialer)
			d.shake(b, r)
			d.client.left, d.server.left = payload(size), payload(size)
			for d.server.got.Len() < size || d.client.got.Len() < size {
				d.client.step(r)
				d.server.step(r)
			}
			keep, drop := d.server.t, d.client.t
			if client {
				keep, drop = drop, keep
			}
			keep.SetOwner(owner)
			drop.raw.owner = owner // the descriptor stays open, the rest is garbage
			kept, raws = append(kept, keep), append(raws, drop.raw)
		}
	})
	r.do(func() {
		used, _ := r.BufferStats()
		if used != 0 {
			b.Errorf("%d bytes lent", used)
		}
		r.h.Close()
	})
	after := heap()
	r.do(func() {
		_, free := r.BufferStats()
		after -= float64(free)
		for i := range kept {
			kept[i].Reset()
			raws[i].Close()
		}
	})
	return (after - before) / n
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

// TestTLSDataAllocs: what crypto/tls allocates a record, 24 bytes each time it
// asks the wire, is all there is.
func TestTLSDataAllocs(t *testing.T) {
	r := startRig(t)
	r.do(func() {
		d := newDuo(t, r, serverConfig(tls.VersionTLS13), clientConfig(tls.VersionTLS13))
		d.shake(t, r)
		defer d.close()
		p, buf := payload(100), make([]byte, 64<<10)
		if n := testing.AllocsPerRun(200, func() {
			d.server.t.Write(p[:40], p[40:])
			d.client.t.raw.flags |= rawReadable
			n, err := d.client.t.Read(buf)
			if n != len(p) || err != nil {
				t.Fatalf("Read = %d, %v", n, err)
			}
			if _, err := d.client.t.Read(buf); err != ErrAgain {
				t.Fatal(err)
			}
		}); n > 2 { // the second is sync.Pool's under the race detector
			t.Errorf("%v allocations per message", n)
		}
	})
}
