package clienthello

const (
	recordHeader  = 5
	messageHeader = 4
	maxRecord     = 1 << 14 // TLSPlaintext.length, RFC 8446 section 5.1
	clientHello   = 1       // HandshakeType, RFC 8446 section 4
)

// scan is how far the records were looked at. The message may be cut anywhere,
// also within its header.
//
//	record:   type 22 │ version 3.x │ length   (5 bytes)
//	message:  type 1  │ length                 (4 bytes, of the records' content)
type scan struct {
	pos     int // in the bytes
	left    int // of the record's content behind pos
	have    int // bytes of the message before pos
	need    int // bytes of the message; 0 until its header is complete
	head    [messageHeader]byte
	records int
}

// records goes on over the record headers; Done if the message is complete.
func (h *Hello) records(b []byte) Status {
	s := &h.scan
	for {
		if s.left == 0 {
			if status := h.record(b); status != Done {
				return status
			}
		}
		for s.have < messageHeader && s.left > 0 && s.pos < len(b) {
			s.head[s.have] = b[s.pos]
			s.step(1)
			if s.head[0] != clientHello {
				return h.fail("not-a-client-hello")
			}
			if s.have == messageHeader {
				s.need = messageHeader + (int(s.head[1])<<16 | int(s.head[2])<<8 | int(s.head[3]))
			}
		}
		if s.need > 0 {
			if h.tooBig() {
				return TooBig
			}
			s.step(min(s.left, s.need-s.have, len(b)-s.pos))
			if s.have == s.need {
				return Done
			}
		}
		if s.left > 0 {
			return NeedMore
		}
	}
}

// record reads one record header.
func (h *Hello) record(b []byte) Status {
	s := &h.scan
	if s.pos+recordHeader > h.maxSize() {
		return TooBig
	}
	if len(b)-s.pos < recordHeader {
		return NeedMore
	}
	header := b[s.pos : s.pos+recordHeader]
	length := int(header[3])<<8 | int(header[4])
	switch {
	case header[0] != recordHandshake || header[1] != majorVersion:
		return h.fail("record-between") // RFC 8446 section 5.1: nothing may come between fragments
	case length == 0:
		return h.fail("empty-record")
	case length > maxRecord:
		return h.fail("record-overflow")
	}
	s.pos += recordHeader
	s.left = length
	s.records++
	return Done
}

func (s *scan) step(n int) {
	s.pos += n
	s.left -= n
	s.have += n
}

// tooBig reports whether what is missing of the message, with one more header
// if the record ends before it, passes the limit.
func (h *Hello) tooBig() bool {
	s := &h.scan
	missing := s.need - s.have
	if missing > s.left {
		missing += recordHeader
	}
	return s.pos+missing > h.maxSize()
}

// message returns the message without its header. One that came in several
// records is joined in memory of h.
func (h *Hello) message(b []byte) []byte {
	s := &h.scan
	if s.records == 1 {
		start := recordHeader + messageHeader
		return b[start:s.pos:s.pos]
	}
	h.joined = h.joined[:0]
	for pos := 0; pos < s.pos; {
		length := int(b[pos+3])<<8 | int(b[pos+4])
		pos += recordHeader
		end := min(pos+length, s.pos)
		h.joined = append(h.joined, b[pos:end]...)
		pos = end
	}
	return h.joined[messageHeader:]
}
