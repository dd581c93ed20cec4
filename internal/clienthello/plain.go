package clienthello

// Plain is what came instead of TLS.
type Plain uint8

const (
	// PlainOther is anything.
	PlainOther Plain = iota
	// PlainHTTP is an HTTP request, or the HTTP/2 preface: somebody forgot the
	// "s" of https and can be told so.
	PlainHTTP
	// PlainSSL2 is a hello in the format of SSL 2.0, which must not be
	// negotiated (RFC 6176) nor sent by clients of TLS 1.1 and up.
	PlainSSL2
)

// String returns the protocol in one word.
func (p Plain) String() string {
	switch p {
	case PlainOther:
		return "other"
	case PlainHTTP:
		return "http"
	case PlainSSL2:
		return "sslv2"
	}
	return "unknown"
}

// methods begin the requests that are known as such: those of RFC 9110 section
// 9 and RFC 5789, of WebDAV those that clients begin with, and of HTTP/2 the
// preface (RFC 9113 section 3.4).
var methods = [...]string{
	"GET ", "POST ", "PUT ", "HEAD ", "DELETE ", "OPTIONS ", "PATCH ", "CONNECT ", "TRACE ",
	"PROPFIND ", "REPORT ", "PRI * HTTP/2.0\r\n",
}

const (
	recordHandshake = 0x16
	majorVersion    = 3 // of SSL 3.0 and all of TLS
)

// begins tells from the first bytes whether they are TLS: Done if so. What no
// TLS begins with is NotTLS as soon as its kind is known.
func (h *Hello) begins(b []byte) Status {
	switch {
	case len(b) == 0:
		return NeedMore
	case b[0] == recordHandshake:
		if len(b) == 1 {
			return NeedMore
		}
		if b[1] != majorVersion {
			return NotTLS
		}
		return Done
	case b[0]&0x80 != 0:
		// Two bytes of length, then the type: 1 is CLIENT-HELLO (RFC 5246
		// appendix E.2).
		if len(b) < 3 {
			return NeedMore
		}
		if b[2] == 1 {
			h.Plain = PlainSSL2
		}
		return NotTLS
	}
	return h.http(b)
}

func (h *Hello) http(b []byte) Status {
	status := NotTLS
	for _, m := range methods {
		n := min(len(m), len(b))
		if string(b[:n]) != m[:n] {
			continue
		}
		if n == len(m) {
			h.Plain = PlainHTTP
			return NotTLS
		}
		status = NeedMore
	}
	return status
}
