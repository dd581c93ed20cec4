package listener

import (
	"encoding/binary"
	"errors"
	"strings"

	"belay/internal/accesslog"
	"belay/internal/clienthello"
	"belay/internal/transport"
)

// PostgreSQL's first messages (protocol 3.0, section "Message Formats"): length,
// code, both of 32 bits.
const (
	pgSSLRequest    = 80877103
	pgGSSENCRequest = 80877104
	pgCancelRequest = 80877102
	pgRequestSize   = 8
)

// pgRefusal is an ErrorResponse that every client shows: 28000 is
// invalid_authorization_specification.
var pgRefusal = func() []byte {
	fields := "SFATAL\x00VFATAL\x00C28000\x00MTLS is required: connect with sslmode=require or stronger\x00\x00"
	b := binary.BigEndian.AppendUint32([]byte{'E'}, uint32(4+len(fields)))
	return append(b, fields...)
}()

// startTLS answers what a PostgreSQL client asks before TLS. Behind SSLRequest
// nothing may come before the answer: what was sent in clear would be taken for
// what TLS has protected (CVE-2021-23222). A listener without TLS declines, and
// passes on what the client says then.
func (e *entrant) startTLS() {
	b := e.buf[e.r:e.n]
	secure := e.gate.tls
	switch {
	case len(b) > 0 && b[0] == recordHandshake && secure: // TLS at once, as sslnegotiation=direct has it
		e.state = entrantHello
		return
	case len(b) < pgRequestSize:
		return
	}
	size, code := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	switch {
	case size == pgRequestSize && code == pgSSLRequest && len(b) == pgRequestSize && secure:
		e.answerPostgres('S', entrantHello)
	case size == pgRequestSize && code == pgSSLRequest && len(b) == pgRequestSize && !e.declined:
		e.declined = true
		e.answerPostgres('N', entrantStart)
	case size == pgRequestSize && code == pgGSSENCRequest && len(b) == pgRequestSize && !e.gssenc:
		e.gssenc = true
		e.answerPostgres('N', entrantStart)
	case !secure && (code>>16 == 3 || code == pgCancelRequest):
		e.serve(Client{Socket: e.raw, Head: e.head()})
	case code>>16 == 3: // StartupMessage
		e.fail(failedStartTLS, errors.New("a PostgreSQL client without TLS"))
		e.bye(pgRefusal)
	default:
		e.refuse(failedStartTLS, errors.New("no SSLRequest of PostgreSQL"))
	}
}

// answerPostgres writes the one byte, for which the buffer of a new connection has
// room.
func (e *entrant) answerPostgres(answer byte, next entrantState) {
	e.r += pgRequestSize
	if n, err := e.raw.Write([]byte{answer}, nil); err != nil || n == 0 {
		e.refuse(failure(transport.FailedClosed), err)
		return
	}
	e.state = next
}

const recordHandshake = 22 // ContentType, RFC 8446 section 5.1

// badRequest is for a client that speaks HTTP where TLS is spoken.
const badRequest = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 47\r\nConnection: close\r\n\r\n400 Bad Request: this port speaks HTTPS (TLS).\n"

// readHello reads the ClientHello, without consuming it, and goes for its chain.
func (e *entrant) readHello() {
	if e.hello == nil {
		e.hello = &clienthello.Hello{MaxSize: e.d.limits.HelloBytes}
	}
	h := e.hello
	switch clienthello.Parse(e.buf[e.r:e.n], h) {
	case clienthello.Done:
		e.choose()
	case clienthello.NotTLS:
		e.fail(failedPlain, errors.New(h.Plain.String()))
		if h.Plain == clienthello.PlainHTTP && e.gate.Config.Protocol == "http" {
			e.bye([]byte(badRequest))
			return
		}
		e.end(true)
	case clienthello.Malformed:
		e.refuse(failedHello, errors.New(h.Reason))
	case clienthello.TooBig:
		e.refuse(failedHelloSize, nil)
	}
}

// choose finds the filter chain and does what it says.
func (e *entrant) choose() {
	g, h := e.gate, e.hello
	e.sni = string(h.RawName)
	f := Facts{ServerName: h.ServerName, Source: e.peer.Addr(), Port: e.dest.Port(), hello: h}
	e.chain = g.chains.find(&f).Chain
	if g.WantLog {
		var b [clienthello.MaxJA4]byte
		e.ja4 = string(h.AppendJA4(b[:0]))
	}
	switch {
	case e.chain == nil:
		e.refuse(failedNoChain, nil)
		return
	case e.chain.Server == nil:
		e.d.shard.Inc(g.st.passed)
		c := Client{Socket: e.raw, Head: e.head()}
		if g.WantLog {
			l := e.helloLog()
			c.Log = &l
		}
		e.serve(c)
		return
	}
	cfg := e.chain.Server.Config()
	if cfg == nil {
		e.refuse(failedWarming, nil)
		return
	}
	var alpn []string
	if g.alpn && g.mixed {
		for p := range h.ALPN.All() {
			alpn = append(alpn, string(p))
		}
	}
	s := &Secure{name: string(h.ServerName), Chain: e.chain, Policy: e.chain.Server.ClientPolicy(), alpn: alpn, port: e.dest.Port(), source: e.peer.Addr()}
	e.secure = s
	e.state = entrantHandshake
	e.tls = transport.AcceptTLS(e.d.handshakes, e.raw, e.head(), cfg)
	e.handshake()
}

// handshake goes on with it.
func (e *entrant) handshake() {
	err := e.tls.Handshake()
	switch {
	case errors.Is(err, transport.ErrAgain):
		return
	case err != nil:
		e.handshakeFailed(err)
		return
	}
	e.secure.TLSInfo = *e.tls.State()
	c := Client{Socket: e.tls, TLS: e.secure}
	if e.gate.WantLog {
		c.Log = e.secure.newLog(e.sni, e.ja4)
	}
	e.gate.st.succeeded(e.d.shard, &e.secure.TLSInfo)
	e.serve(c)
}

// helloLog is what the access log tells of a client by its ClientHello alone.
func (e *entrant) helloLog() accesslog.TLS {
	l := accesslog.TLS{ServerName: e.sni, JA4: e.ja4, Handshake: -1}
	if e.chain != nil {
		l.Chain = e.chain.Name
	}
	return l
}

// handshakeFailed lets the client read the alert that says why.
func (e *entrant) handshakeFailed(err error) {
	why := failureOf(err)
	e.fail(why, err)
	if why == failure(transport.FailedClosed) || why == failure(transport.FailedAlert) {
		e.end(false)
		return
	}
	e.raw.SetOwner(e)
	e.bye(nil)
}

// fail counts a connection that does not come in, and tells the logs.
func (e *entrant) fail(why failure, err error) {
	if e.refused {
		return
	}
	e.refused = true
	d := e.d
	d.shard.Inc(e.gate.st.failed[why])
	name := e.gate.Config.Name
	if also, ok := d.limits.said.Now(saidKey{name, why}, d.loop.Now()); ok {
		args := []any{"listener", name, "reason", why.String(), "client", e.peer}
		if e.sni != "" {
			args = append(args, "server_name", printable(e.sni))
		}
		if e.chain != nil {
			args = append(args, "chain", e.chain.Name)
		}
		if err != nil {
			args = append(args, "error", err)
		}
		if also > 0 {
			args = append(args, "unlogged", also)
		}
		d.log.Info("connection refused before its protocol began", args...)
	}
	if d.access == nil {
		return
	}
	d.record = accesslog.Record{
		Start: d.wall(e.start), Duration: d.loop.Now() - e.start, UpstreamConnect: -1, UpstreamFirstByte: -1,
		Client: e.peer, Peer: e.socketPeer(), Listener: name, Protocol: protocolTLS, Reason: "handshake-" + why.String(),
	}
	if e.gate.tls {
		d.hello = e.helloLog()
		d.record.TLS = &d.hello
	}
	d.access.Append(&d.record)
}

var protocolTLS = []byte("TLS")

// saidKey is a kind of line of the log.
type saidKey struct {
	listener string
	why      failure
}

// printable is what a client said, fit for a log.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
