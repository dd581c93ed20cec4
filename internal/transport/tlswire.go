package transport

import (
	"net"
	"time"

	"golang.org/x/sys/unix"

	"belay/internal/eventloop"
)

// wire is a TLS as the net.Conn of its tls.Conn. The rules that keep crypto/tls
// usable without waiting:
//
//   - Read, when the socket is dry, returns an error that calls itself
//     temporary: crypto/tls keeps its partial record and may be called again.
//     Only the handshake keeps every error for ever; it runs in a coroutine, and
//     Read parks that instead.
//   - Read hands out at most one record, so crypto/tls never holds records that
//     nobody can see from here.
//   - Write never fails: crypto/tls keeps every error of it for ever.
type wire TLS

// errDry is the temporary error.
var errDry = &dry{}

type dry struct{}

func (*dry) Error() string   { return "transport: TLS socket is dry" }
func (*dry) Timeout() bool   { return false }
func (*dry) Temporary() bool { return true }

func (w *wire) Read(p []byte) (int, error) {
	t := (*TLS)(w)
	for {
		switch err := t.fill(); {
		case err == nil:
			n := t.record.take(p, t.in.bytes(), &t.records)
			t.in.skip(t.raw.loop, n)
			return n, nil
		case err != ErrAgain:
			return 0, err
		case t.co == nil:
			return 0, errDry
		}
		if !t.co.park() || t.flags&tlsAbandoned != 0 {
			return 0, errAbandoned
		}
	}
}

func (w *wire) Write(p []byte) (int, error) {
	t := (*TLS)(w)
	if t.flags&(tlsAbandoned|tlsEndSent) != 0 || t.writeErr != nil {
		return len(p), nil
	}
	if t.flags&tlsOpen == 0 {
		t.noteAlert(p)
	} else if t.flags&tlsWriting == 0 {
		t.replies += uint32(len(p))
	}
	t.out.add(t.raw.loop, p)
	return len(p), nil
}

// noteAlert remembers an alert that goes out in clear: it tells why a handshake
// failed better than the text of crypto/tls's error does.
func (t *TLS) noteAlert(p []byte) {
	if len(p) == recordHeadSize+2 && p[0] == recordAlert {
		t.alert = p[recordHeadSize+1]
	}
}

// Close is for crypto/tls when a context ends; ours never does.
func (w *wire) Close() error { return nil }

// RemoteAddr is what callbacks of the configuration are told, and what client
// sessions are kept under if there is no ServerName.
func (w *wire) RemoteAddr() net.Addr { return socketAddr(unix.Getpeername(int(w.raw.fd))) }
func (w *wire) LocalAddr() net.Addr  { return socketAddr(unix.Getsockname(int(w.raw.fd))) }

func socketAddr(sa unix.Sockaddr, err error) net.Addr {
	if err != nil {
		return &net.TCPAddr{}
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: net.IP(sa.Addr[:]), Port: sa.Port}
	case *unix.SockaddrInet6:
		return &net.TCPAddr{IP: net.IP(sa.Addr[:]), Port: sa.Port}
	case *unix.SockaddrUnix:
		return &net.UnixAddr{Net: "unix", Name: sa.Name}
	}
	return &net.TCPAddr{}
}

func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// Sizes of a recv: that of a request, and that of a connection which filled the
// first one, four records.
const (
	recvSize = 16 << 10
	recvBulk = 64 << 10
)

// fill sees to it that in has something. ErrAgain: nothing now; any other error
// is the socket's last word.
func (t *TLS) fill() error {
	switch {
	case t.in.len() > 0:
		return nil
	case t.inErr != nil:
		return t.inErr
	case !t.raw.Readable():
		return ErrAgain
	}
	size := recvSize
	if t.flags&tlsBulk != 0 {
		size = recvBulk
	}
	p := t.raw.loop.Get(size)
	n, err := t.raw.Read(p)
	if err != nil {
		t.raw.loop.Put(p)
		if err != ErrAgain {
			t.inErr = err
		}
		return err
	}
	t.flags &^= tlsBulk
	if n == len(p) {
		t.flags |= tlsBulk
	}
	t.in = queue{buf: p, end: n}
	return nil
}

// The record layer's framing (RFC 8446, 5.1), as far as it matters here.
const (
	recordHeadSize = 5
	recordAlert    = 21
)

// recordHead follows the borders of records in a stream of bytes.
type recordHead struct {
	got  uint8  // bytes of the head seen
	left uint16 // of the body; of the head only the length is kept
}

// take copies from src to p as much as belongs to one record, and counts the
// record when that was its end.
func (r *recordHead) take(p, src []byte, records *uint32) int {
	n := min(len(p), len(src))
	i := 0
	for ; r.got < recordHeadSize && i < n; i++ {
		r.left = r.left<<8 | uint16(src[i])
		r.got++
	}
	if r.got == recordHeadSize {
		body := min(n-i, int(r.left))
		r.left -= uint16(body)
		i += body
		if r.left == 0 {
			r.got = 0
			*records++
		}
	}
	return copy(p[:i], src)
}

// whole reports whether src begins with what is missing of a record.
func (r *recordHead) whole(src []byte) bool {
	switch {
	case r.got == recordHeadSize:
		return len(src) >= int(r.left)
	case r.got > 0 || len(src) < recordHeadSize:
		return false
	}
	return len(src)-recordHeadSize >= int(src[3])<<8|int(src[4])
}

// queue is bytes on their way in a buffer of the loop; it has none when empty.
type queue struct {
	buf   []byte
	start int
	end   int
}

func (q *queue) len() int      { return q.end - q.start }
func (q *queue) bytes() []byte { return q.buf[q.start:q.end] }

// reserve makes room for n more bytes.
func (q *queue) reserve(loop *eventloop.Worker, n int) {
	if len(q.buf)-q.end >= n {
		return
	}
	larger := queue{buf: loop.Get(q.len() + n)}
	larger.end = copy(larger.buf, q.bytes())
	q.drop(loop)
	*q = larger
}

func (q *queue) add(loop *eventloop.Worker, p []byte) {
	q.reserve(loop, len(p))
	q.end += copy(q.buf[q.end:], p)
}

func (q *queue) skip(loop *eventloop.Worker, n int) {
	if q.start += n; q.start == q.end {
		q.drop(loop)
	}
}

func (q *queue) drop(loop *eventloop.Worker) {
	if q.buf != nil {
		loop.Put(q.buf)
	}
	*q = queue{}
}
