package clienthello

// Parse reads a hello from b, which has all bytes of the connection so far. On
// NeedMore it is called again with the same bytes and more behind them; the
// buffer may have moved meanwhile. Any other status is final, and is returned
// again until Reset. It is Done as soon as the message is complete; what stands
// behind it, such as early data, is not looked at.
//
// It allocates only for a message that came in several records, once for every
// Hello that meets one.
func Parse(b []byte, h *Hello) Status {
	if h.status == NeedMore {
		h.status = h.parse(b)
	}
	return h.status
}

func (h *Hello) parse(b []byte) Status {
	if h.scan.pos == 0 {
		if status := h.begins(b); status != Done {
			return status
		}
	}
	if status := h.records(b); status != Done {
		return status
	}
	if reason := h.fields(h.message(b)); reason != "" {
		return h.fail(reason)
	}
	return Done
}

const randomSize = 32

// fields takes the message apart (RFC 8446 section 4.1.2); "" or a Reason.
func (h *Hello) fields(m []byte) (reason string) {
	if len(m) < 2+randomSize {
		return "truncated"
	}
	h.Version = uint16(m[0])<<8 | uint16(m[1])
	h.Random = m[2 : 2+randomSize : 2+randomSize]
	m = m[2+randomSize:]

	var compression []byte
	var ok bool
	if h.SessionID, m, ok = vector8(m); !ok {
		return "truncated"
	}
	var ciphers []byte
	if ciphers, m, ok = vector16(m); !ok {
		return "truncated"
	}
	if compression, m, ok = vector8(m); !ok {
		return "truncated"
	}
	switch {
	case len(h.SessionID) > 32:
		return "bad-session-id"
	case len(ciphers) == 0 || len(ciphers)%2 != 0:
		return "bad-cipher-suites"
	case len(compression) == 0:
		return "bad-compression-methods"
	}
	h.Ciphers = ciphers
	if len(m) == 0 {
		return "" // before TLS 1.2 the block of extensions may be missing
	}
	extensions, rest, ok := vector16(m)
	switch {
	case !ok:
		return "truncated"
	case len(rest) > 0:
		return "trailing-bytes"
	}
	return h.extensions(extensions)
}

// vector8 splits b behind a vector with one byte of length (RFC 8446 section 3.4).
func vector8(b []byte) (v, rest []byte, ok bool) {
	if len(b) < 1 || len(b)-1 < int(b[0]) {
		return nil, nil, false
	}
	n := 1 + int(b[0])
	return b[1:n:n], b[n:], true
}

// vector16 splits b behind a vector with two bytes of length.
func vector16(b []byte) (v, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := 2 + (int(b[0])<<8 | int(b[1]))
	if len(b) < n {
		return nil, nil, false
	}
	return b[2:n:n], b[n:], true
}
