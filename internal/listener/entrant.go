package listener

import (
	"errors"
	"net/netip"
	"time"

	"belay/internal/clienthello"
	"belay/internal/eventloop"
	"belay/internal/proxyproto"
	"belay/internal/transport"
)

// entrant is one connection at the door. Methods that may end it report whether
// it is still there.
type entrant struct {
	d          *Door
	prev, next *entrant
	acc        *Acceptor
	gate       *Gate
	deliver    func(Client)
	raw        *transport.Raw
	tls        *transport.TLS // from the handshake on
	chain      *Chain
	hello      *clienthello.Hello
	timer      eventloop.Timer

	// buf[r:n] is read and not consumed.
	buf  []byte
	r, n int

	peer, via, dest netip.AddrPort
	start           int64
	sni             string // for the log
	ja4             string
	state           entrantState
	admitted        bool // the listener knows the client's address
	counted         bool // by limits.sources
	gssenc          bool // GSSENCRequest came
	declined        bool // SSLRequest came, and there is no TLS
	spoke           bool // a byte came
	refused         bool // and told so
	secure          *Secure
}

type entrantState uint8

const (
	entrantProxy entrantState = iota
	entrantStart
	entrantHello
	entrantHandshake
	entrantBye
)

// byeTime is how long a client that was told why it is refused may take to read
// that: a close with unread bytes would reset the connection under the words.
const byeTime = time.Second

// firstRead is the size of the first buffer; a post-quantum hello fits.
const firstRead = 4 << 10

// Ready is the socket's event.
func (e *entrant) Ready(eventloop.Events) {
	switch e.state {
	case entrantHandshake:
		e.handshake()
	case entrantBye:
		e.discard()
	default:
		e.read()
	}
}

// HandleTimer is the end of timeouts.handshake, or of byeTime.
func (e *entrant) HandleTimer(*eventloop.Timer) {
	if e.state == entrantBye {
		e.end(false)
		return
	}
	e.refuse(failedTimeout, nil)
}

// read reads and looks, until nothing more is there or another state has come.
func (e *entrant) read() {
	for {
		if e.buf == nil {
			e.buf = e.d.loop.Get(firstRead)
		} else if e.n == len(e.buf) {
			e.makeRoom()
		}
		n, err := e.raw.Read(e.buf[e.n:])
		switch {
		case errors.Is(err, transport.ErrAgain):
			if e.n == e.r {
				e.dropBuffer()
			}
			return
		case err != nil && !e.spoke: // a look at whether the port is open
			e.end(false)
			return
		case err != nil:
			e.refuse(failure(transport.FailedClosed), err)
			return
		}
		e.spoke = true
		e.n += n
		if !e.look() {
			return
		}
	}
}

// look does what can be done with what was read; false: another state has come, or
// the end.
func (e *entrant) look() bool {
	for {
		before, at := e.state, e.r
		switch e.state {
		case entrantProxy:
			e.proxyHeader()
		case entrantStart:
			e.startTLS()
		case entrantHello:
			e.readHello()
		default:
			return false
		}
		if e.gate == nil { // recycled
			return false
		}
		if e.state == before && e.r == at || e.r == e.n && e.state < entrantHandshake {
			return e.state < entrantHandshake
		}
	}
}

// makeRoom moves what is unread to the front, of a larger buffer if need be. What
// is parsed bounds how much that can become.
func (e *entrant) makeRoom() {
	b := e.buf
	if e.n-e.r > len(b)/2 {
		b = e.d.loop.Get(2 * len(e.buf))
	}
	n := copy(b, e.buf[e.r:e.n])
	if &b[0] != &e.buf[0] {
		e.d.loop.Put(e.buf)
	}
	e.buf, e.r, e.n = b, 0, n
}

func (e *entrant) dropBuffer() {
	if e.buf != nil {
		e.d.loop.Put(e.buf)
		e.buf, e.r, e.n = nil, 0, 0
	}
}

// head gives away what is read and not consumed; nil: nothing.
func (e *entrant) head() []byte {
	if e.r == e.n {
		e.dropBuffer()
		return nil
	}
	n := copy(e.buf, e.buf[e.r:e.n])
	b := e.buf[:n]
	e.buf, e.r, e.n = nil, 0, 0
	return b
}

// proxyHeader reads the PROXY header of a peer that may send one.
func (e *entrant) proxyHeader() {
	var h proxyproto.Header
	switch proxyproto.Parse(e.buf[e.r:e.n], &h) {
	case proxyproto.NeedMore:
	case proxyproto.Malformed:
		e.refuse(failedProxyHeader, errors.New(h.Reason))
	case proxyproto.NotProxy:
		if e.gate.Config.ProxyProtocol == "require" {
			e.refuse(failedProxyMissing, nil)
			return
		}
		e.admit()
	case proxyproto.Done:
		e.r += h.Size
		if h.Command == proxyproto.Proxy && h.Family != proxyproto.Unspec {
			e.d.shard.Inc(e.gate.st.proxied)
			e.via, e.peer, e.dest = e.peer, h.Source, h.Dest // invalid for Unix sockets
		}
		e.admit()
	}
}

// admit asks the listener about the address that the PROXY header brought.
func (e *entrant) admit() {
	if why := e.acc.admit(e.peer); why != Admitted {
		e.end(true)
		return
	}
	e.admitted = true
	e.afterProxy()
}

// afterProxy begins what comes behind the PROXY header. A listener that requires
// one is not for others.
func (e *entrant) afterProxy() {
	g := e.gate
	switch {
	case g.Config.ProxyProtocol == "require" && !g.mayProxy(e.socketPeer()):
		e.refuse(failedProxyMissing, nil)
	case !g.tls && !g.postgres:
		e.serve(Client{Socket: e.raw, Head: e.head()})
	case e.peer.IsValid() && !e.d.limits.sources.enter(e.peer.Addr()):
		e.refuse(failedSource, nil)
	default:
		e.counted = e.peer.IsValid()
		e.state = entrantHello
		if g.postgres {
			e.state = entrantStart
		}
	}
}

// socketPeer is the other end of the connection itself.
func (e *entrant) socketPeer() netip.AddrPort {
	if e.via.IsValid() {
		return e.via
	}
	return e.peer
}

// serve hands the connection to its protocol.
func (e *entrant) serve(c Client) {
	c.Peer, c.Via, c.Dest, c.Chain = e.peer, e.via, e.dest, e.chain
	deliver := e.deliver
	e.leave()
	deliver(c)
	e.d.gone(e)
}

// leave takes the connection off the door.
func (e *entrant) leave() {
	e.d.loop.StopTimer(&e.timer)
	if e.counted {
		e.counted = false
		e.d.limits.sources.leave(e.peer.Addr())
	}
	e.dropBuffer()
	e.d.remove(e)
}

// end closes the connection, with RST if reset.
func (e *entrant) end(reset bool) {
	e.leave()
	switch {
	case e.tls != nil && e.state == entrantHandshake:
		if reset {
			e.tls.Reset()
		} else {
			e.tls.Close()
		}
	case reset:
		e.raw.Reset()
	default:
		e.raw.Close()
	}
	acc, peer, admitted := e.acc, e.peer, e.admitted
	e.d.gone(e)
	acc.quit(peer, admitted)
}

// gone recycles e and tells who waits for the end.
func (d *Door) gone(e *entrant) {
	d.recycle(e)
	d.checkQuiet()
}

// refuse counts, logs and resets.
func (e *entrant) refuse(why failure, err error) {
	e.fail(why, err)
	e.end(true)
}

// bye sends last words and waits until they are read.
func (e *entrant) bye(words []byte) {
	e.state = entrantBye
	e.dropBuffer()
	if len(words) > 0 {
		if _, err := e.raw.Write(words, nil); err != nil {
			e.end(true)
			return
		}
	}
	if e.raw.CloseWrite() != nil {
		e.end(true)
		return
	}
	e.d.loop.SetTimer(&e.timer, e, e.d.loop.Now()+int64(byeTime))
	e.discard()
}

// discard reads and drops until the end or ErrAgain.
func (e *entrant) discard() {
	for range acceptsPerTurn {
		_, err := e.raw.Read(e.d.scratch[:])
		if errors.Is(err, transport.ErrAgain) {
			return
		}
		if err != nil {
			break
		}
	}
	e.end(false)
}
