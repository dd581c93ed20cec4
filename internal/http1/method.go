package http1

// Method is a request method (RFC 9110 section 9, RFC 5789).
type Method uint8

// The methods that have a meaning for a proxy; all others are Other.
const (
	Other Method = iota
	GET
	HEAD
	POST
	PUT
	DELETE
	OPTIONS
	PATCH
	TRACE
	CONNECT
)

var methodNames = [...]string{"other", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"}

// String returns the method as on the wire; "other" for Other.
func (m Method) String() string {
	if int(m) < len(methodNames) {
		return methodNames[m]
	}
	return "unknown"
}

// Idempotent reports whether a request may be sent a second time when nothing
// is known of the first (RFC 9110 section 9.2.2). Other is not.
func (m Method) Idempotent() bool {
	switch m {
	case GET, HEAD, PUT, DELETE, OPTIONS, TRACE:
		return true
	}
	return false
}

// methodOf returns the method b names; case matters (RFC 9110 section 9.1).
func methodOf(b []byte) Method {
	var m Method
	switch len(b) {
	case 3:
		if b[0] == 'G' {
			m = GET
		} else {
			m = PUT
		}
	case 4:
		if b[0] == 'H' {
			m = HEAD
		} else {
			m = POST
		}
	case 5:
		if b[0] == 'P' {
			m = PATCH
		} else {
			m = TRACE
		}
	case 6:
		m = DELETE
	case 7:
		if b[0] == 'O' {
			m = OPTIONS
		} else {
			m = CONNECT
		}
	default:
		return Other
	}
	if string(b) != methodNames[m] {
		return Other
	}
	return m
}
