package proxyproto

const (
	signature1 = "PROXY"
	signature2 = "\r\n\r\n\x00\r\nQUIT\n"
)

// Parse reads a header from b, which has all bytes of the connection so far. On
// NeedMore it is called again with the same bytes and more behind them; the
// buffer may have moved meanwhile. Any other status is final, and is returned
// again until Reset. It allocates nothing.
func Parse(b []byte, h *Header) Status {
	if h.status == NeedMore {
		h.status = h.parse(b)
	}
	return h.status
}

func (h *Header) parse(b []byte) Status {
	switch {
	case begins(b, signature1):
		if len(b) > len(signature1) {
			return h.parseV1(b)
		}
	case begins(b, signature2):
		if len(b) > len(signature2) {
			return h.parseV2(b)
		}
	default:
		return NotProxy
	}
	return NeedMore
}

// begins reports whether b begins with prefix, as far as b goes.
func begins(b []byte, prefix string) bool {
	n := min(len(b), len(prefix))
	return string(b[:n]) == prefix[:n]
}
