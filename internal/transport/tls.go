package transport

import (
	"crypto/tls"
	"errors"
	"io"

	"belay/internal/eventloop"
)

// ErrTruncated ends a TLS stream whose peer closed without close_notify: what
// was read may be cut short by somebody else than the peer (RFC 8446, 6.1).
var ErrTruncated = errors.New("transport: TLS stream ended without close_notify")

// ErrFlood ends a TLS connection whose peer keeps sending records that carry
// nothing: key updates, tickets, warnings, empty records.
var ErrFlood = errors.New("transport: too many TLS records without data")

// TLS is a Socket whose bytes travel in the TLS records of a Raw, of which it
// is the owner. crypto/tls does the work, unforked, over a net.Conn that never
// waits (wire). One record's way is:
//
//	in:  socket → t.in, one buffer per recv → wire.Read, at most one record a
//	     time → crypto/tls → Read's caller
//	out: Write's caller → crypto/tls → wire.Write, one call per record → t.out →
//	     one send per Write
//
// Both buffers are lent by the loop and given back when empty, so an idle
// connection has none.
//
// States, all seen from Handshake: waiting (for connect(2), for the first byte)
// → running (co is set) → open, or failed. Only open has a stream.
type TLS struct {
	raw   *Raw
	owner Owner
	h     *Handshakes
	cfg   *tls.Config // until the handshake starts
	conn  *tls.Conn   // from then on
	co    *coroutine  // while it runs

	in, out  queue
	inErr    error // the socket's last word; after it in gets nothing more
	readErr  error // the stream's
	writeErr error
	failed   *HandshakeError
	info     *TLSInfo

	began, ended int64 // of the handshake, eventloop.Monotonic

	record  recordHead
	records uint32 // that wire.Read finished handing out
	replies uint32 // bytes in out that crypto/tls wrote of its own accord
	empties uint16 // records without data in minute
	minute  uint16
	flags   tlsFlags
	alert   uint8 // last alert sent in clear
	peeked  byte  // with tlsPeeked
}

type tlsFlags uint16

const (
	tlsClient    tlsFlags = 1 << iota
	tlsOpen               // the handshake succeeded
	tlsMore               // crypto/tls may have decrypted bytes left
	tlsPeeked             // peeked is the stream's next byte
	tlsBulk               // the last recv filled its buffer
	tlsWriting            // inside our own Write: records are not replies
	tlsEndSent            // close_notify was sent: nothing may follow
	tlsShut               // shutdown(2) when out is empty
	tlsQueued             // waits for its turn in h
	tlsGranted            // has its turn
	tlsCounted            // h counts it as open handshake
	tlsAbandoned          // the coroutine shall end
	tlsClosed
)

// AcceptTLS makes raw the server's end of a TLS connection and takes raw's place
// as the socket of raw's owner. head is what was read of the client's first
// flight, to choose cfg by its server name for instance: a buffer of the loop's
// Get, which is the TLS's from now on, or nil. (Reading the hello costs what the
// handshake would cost anyway. Peeking with MSG_PEEK would copy it out of the
// kernel twice, and again from the start with every segment of it.)
//
// Handshake must be called now if there is a head, and with every Ready.
//
// cfg is shared by all connections of its kind and never copied: session tickets
// belong to it. It should say DynamicRecordSizingDisabled: what one Write takes
// goes out in one send anyhow.
func AcceptTLS(h *Handshakes, raw *Raw, head []byte, cfg *tls.Config) *TLS {
	t := newTLS(h, raw, cfg)
	if head != nil {
		t.in = queue{buf: head[:cap(head)], end: len(head)}
		t.in.skip(raw.loop, 0)
	}
	return t
}

// DialTLS makes raw, which may be connecting still, the client's end of a TLS
// connection and takes raw's place as the socket of raw's owner. cfg is as for
// AcceptTLS.
func DialTLS(h *Handshakes, raw *Raw, cfg *tls.Config) *TLS {
	t := newTLS(h, raw, cfg)
	t.flags |= tlsClient
	return t
}

func newTLS(h *Handshakes, raw *Raw, cfg *tls.Config) *TLS {
	t := &TLS{raw: raw, owner: raw.owner, h: h, cfg: cfg, flags: tlsCounted}
	h.open++
	raw.owner = t
	return t
}

// Ready passes the Raw's events on. Out reaches the owner only when what waited
// in out is gone.
func (t *TLS) Ready(ev eventloop.Events) {
	if !t.flush() {
		ev &^= eventloop.Out
	}
	if t.writeErr != nil {
		ev |= eventloop.Err
	}
	if ev != 0 {
		t.owner.Ready(ev)
	}
}

// Handshake waits for the connect of the Raw, then for TLS. Its error is a
// HandshakeError if TLS is what failed.
func (t *TLS) Handshake() error {
	switch {
	case t.flags&tlsOpen != 0:
		return nil
	case t.failed != nil:
		return t.failed
	}
	if err := t.raw.Handshake(); err != nil {
		return err
	}
	return t.h.advance(t)
}

// Read takes what is decrypted, then whole records while they are at hand.
func (t *TLS) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n := 0
	if t.flags&tlsPeeked != 0 {
		t.flags &^= tlsPeeked
		p[0] = t.peeked
		n = 1
	}
	for n < len(p) && (n == 0 || t.readErr == nil && t.recordAtHand()) {
		m, err := t.decrypt(p[n:])
		n += m
		if err != nil && n == 0 {
			return 0, err
		}
	}
	return n, nil
}

// recordAtHand reports whether reading on gives bytes without a system call.
func (t *TLS) recordAtHand() bool { return t.flags&tlsMore != 0 || t.record.whole(t.in.bytes()) }

// decrypt is one Read of crypto/tls, with what came of it put in order. Every
// error but ErrAgain is final and kept: crypto/tls itself forgets some, and
// refused renegotiation is one of them.
func (t *TLS) decrypt(p []byte) (int, error) {
	switch {
	case t.flags&tlsOpen == 0:
		return 0, t.notOpen()
	case t.readErr != nil:
		return 0, t.readErr
	case !t.Readable():
		return 0, ErrAgain
	}
	before := t.records
	n, err := t.conn.Read(p)
	t.flags &^= tlsMore
	if n == len(p) {
		t.flags |= tlsMore
	}
	useless := t.records - before
	if n > 0 && useless > 0 {
		useless--
	}
	switch {
	case err != nil && err != errDry:
		t.readErr = t.streamError(err)
	case useless > 0 && t.floods(useless):
		t.readErr = ErrFlood
	}
	t.flush()
	switch {
	case n > 0:
		return n, nil
	case t.readErr != nil:
		return 0, t.readErr
	}
	return 0, ErrAgain
}

// notOpen is what Read and Write say when there is no stream.
func (t *TLS) notOpen() error {
	if t.failed != nil {
		return t.failed
	}
	return ErrAgain
}

// streamError tells a close_notify from a mere end.
func (t *TLS) streamError(err error) error {
	switch {
	case t.inErr == io.EOF && (err == io.EOF || err == io.ErrUnexpectedEOF):
		return ErrTruncated
	case t.inErr != nil && t.inErr != io.EOF:
		return t.inErr
	}
	return err
}

// Limits of what a peer may have us do for nothing. A key update is 27 bytes for
// the peer and 8 to 11 µs and 3 to 6 kB of garbage for us.
const (
	maxEmpties = 100      // records without data per minute
	maxReplies = 16 << 10 // bytes of answers that the peer does not take
)

// floods counts n records without data.
func (t *TLS) floods(n uint32) bool {
	if minute := uint16(t.raw.loop.Now() / 60e9); minute != t.minute {
		t.minute, t.empties = minute, 0
	}
	t.empties += uint16(min(n, maxEmpties))
	return t.empties > maxEmpties || t.replies > maxReplies
}

// Write seals and sends until the kernel takes no more. What it has sealed by
// then, at most sealUnit, counts as taken.
func (t *TLS) Write(a, b []byte) (int, error) {
	if t.flags&tlsOpen == 0 {
		return 0, t.notWritable()
	}
	n, total := 0, len(a)+len(b)
	for n < total && t.flush() && t.writeErr == nil {
		m, err := t.seal(a[min(n, len(a)):], b[max(0, n-len(a)):])
		n += m
		if err != nil && t.writeErr == nil {
			t.writeErr = err
		}
	}
	t.flush()
	return n, t.writeErr
}

func (t *TLS) notWritable() error {
	if t.failed != nil {
		return t.failed
	}
	return nil
}

const (
	maxRecord = 16 << 10      // plaintext in one record
	sealUnit  = 3 * maxRecord // plaintext sealed at a time: with its overhead it fits a buffer of 64 KiB
)

// seal encrypts at most sealUnit bytes of a, then of b, into out; into one
// record if one can hold both.
func (t *TLS) seal(a, b []byte) (n int, err error) {
	if len(a) > 0 && len(b) > 0 && len(a)+len(b) <= maxRecord {
		a = append(append(t.h.joined[:0], a...), b...)
		b = nil
	}
	a = a[:min(len(a), sealUnit)]
	b = b[:min(len(b), sealUnit-len(a))]
	size := len(a) + len(b)
	t.out.reserve(t.raw.loop, size+size/16+128)
	t.flags |= tlsWriting
	if len(a) > 0 {
		n, err = t.conn.Write(a)
	}
	if len(b) > 0 && err == nil {
		var m int
		m, err = t.conn.Write(b)
		n += m
	}
	t.flags &^= tlsWriting
	return n, err
}

// flush gives the kernel what is in out and reports whether all of it went.
func (t *TLS) flush() bool {
	if t.out.len() == 0 {
		return true
	}
	n, err := t.raw.Write(t.out.bytes(), nil)
	if err != nil {
		t.writeErr = err
		t.out.drop(t.raw.loop)
		return true
	}
	if t.out.skip(t.raw.loop, n); t.out.len() > 0 {
		return false
	}
	t.replies = 0
	if t.flags&tlsShut != 0 {
		t.flags &^= tlsShut
		t.raw.CloseWrite()
	}
	return true
}

// Readable reports whether there are decrypted bytes, records not yet decrypted,
// an error to tell, or whether the Raw may have something.
func (t *TLS) Readable() bool {
	return t.flags&tlsOpen != 0 && (t.flags&(tlsMore|tlsPeeked) != 0 || t.in.len() > 0 || t.inErr != nil || t.readErr != nil || t.raw.Readable())
}

// Alive reads, which costs what a peek costs, and lets records without data
// pass: a server's tickets may come at any time.
func (t *TLS) Alive() bool {
	if t.flags&(tlsOpen|tlsPeeked|tlsEndSent) != tlsOpen || t.writeErr != nil || t.raw.flags&rawHup != 0 {
		return false
	}
	t.raw.flags |= rawReadable
	for t.flags&tlsMore != 0 || t.fill() != ErrAgain {
		var p [1]byte
		n, err := t.decrypt(p[:])
		if n > 0 {
			t.flags |= tlsPeeked
			t.peeked = p[0]
			return false
		}
		if err != ErrAgain {
			return false
		}
	}
	return true
}

// Unsent counts sealed bytes.
func (t *TLS) Unsent() int { return t.out.len() + t.raw.Unsent() }

// CloseWrite sends close_notify, and shutdown(SHUT_WR) after it.
func (t *TLS) CloseWrite() error {
	switch {
	case t.failed != nil:
		return t.failed
	case t.writeErr != nil:
		return t.writeErr
	case t.flags&tlsOpen == 0:
		return errors.New("transport: CloseWrite before the TLS handshake")
	case t.flags&tlsEndSent != 0:
		return nil
	}
	t.endStream()
	if t.flags |= tlsShut; t.out.len() == 0 {
		t.flags &^= tlsShut
		return t.raw.CloseWrite()
	}
	t.flush()
	return t.writeErr
}

// endStream puts close_notify into out.
func (t *TLS) endStream() {
	t.conn.CloseWrite() // fails only if something failed before
	t.flags |= tlsEndSent
}

// Close sends close_notify and closes. What Write has taken and the kernel has
// not stays behind with the descriptor until it is gone too, as the kernel does
// for a Raw.
func (t *TLS) Close() {
	if t.flags&tlsClosed != 0 {
		return
	}
	if t.flags&(tlsOpen|tlsEndSent) == tlsOpen && t.writeErr == nil && (t.readErr == nil || t.readErr == io.EOF || t.readErr == ErrTruncated) {
		t.endStream()
	}
	t.release()
	if !t.flush() {
		t.h.linger(t)
		return
	}
	t.raw.Close()
}

// Reset closes with RST.
func (t *TLS) Reset() {
	if t.flags&tlsClosed != 0 {
		return
	}
	t.release()
	t.out.drop(t.raw.loop)
	t.raw.Reset()
}

// release gives back all but the descriptor and out.
func (t *TLS) release() {
	t.h.abandon(t)
	t.in.drop(t.raw.loop)
	t.flags = t.flags&^(tlsOpen|tlsMore|tlsPeeked) | tlsClosed
	t.conn = nil
}

// SetOwner moves the events.
func (t *TLS) SetOwner(o Owner) { t.owner = o }

// SetFirst is the Raw's SetFirst.
func (t *TLS) SetFirst(first bool) { t.raw.SetFirst(first) }

// Descriptor is -1: what is on the wire is not what Read and Write carry.
func (t *TLS) Descriptor() int { return -1 }
