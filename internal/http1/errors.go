package http1

import "errors"

// Error says why a message is refused. All values are made when the program
// starts, so that refusing allocates nothing; they can be compared.
type Error struct {
	Status int    // for the client: 400, 405, 414, 417, 431, 501, 505; 502 from Response
	Reason string // short and stable, for logs and statistics, such as "bad-request-line"

	text     string
	upstream *Error // the same for a response, with status 502
}

// Error returns a sentence for people.
func (e *Error) Error() string { return e.text }

// ErrNeedMore is returned while a head is not complete.
var ErrNeedMore = errors.New("head is not complete")

// ErrTruncated is the end of the connection before the end of a body.
var ErrTruncated = newError(400, "truncated-body", "connection ended before the body did")

// Start lines.
var (
	errTLS        = newError(400, "tls-on-plain-port", "TLS record on a port without TLS")
	errLeading    = newError(400, "bad-request-line", "more than one empty line before the request line")
	errMethod     = newError(400, "bad-method", "method is not a token")
	errMethodLong = newError(400, "bad-method", "method is too long")
	errTarget     = newError(400, "bad-target", "request target is missing or has a character that must not be there")
	errForm       = newError(400, "bad-target", "request target has a form that the method does not take")
	errScheme     = newError(400, "bad-scheme", "scheme of the request target is not http")
	errEscape     = newError(400, "bad-target", "path has a % that is not followed by two hexadecimal digits")
	errControl    = newError(400, "escaped-control", "path has %00, %0a or %0d")
	errBackslash  = newError(400, "backslash", "path has a backslash")
	errTooLong    = newError(414, "target-too-long", "request target is too long")
	errNoVersion  = newError(400, "bad-version", "request line has no version")
	errVersion    = newError(400, "bad-version", "malformed HTTP version")
	errNotHTTP1   = newError(505, "version-not-supported", "HTTP version is not 1.x")
	errStatusLine = newError(400, "bad-status-line", "malformed status line")
	errLineLong   = newError(400, "status-line-too-long", "status line is too long")
	errConnect    = newError(405, "connect-refused", "CONNECT is not served")
	errTrace      = newError(405, "trace-refused", "TRACE is not served")
	errTraceBody  = newError(400, "trace-body", "TRACE with a body")
)

// Lines and fields.
var (
	errBareLF       = newError(400, "bare-lf", "LF without CR before it")
	errBareCR       = newError(400, "bare-cr", "CR without LF behind it")
	errFieldName    = newError(400, "bad-field-name", "field name is not a token")
	errEmptyName    = newError(400, "bad-field-name", "field without a name")
	errNoColon      = newError(400, "bad-field-name", "field line without a colon")
	errSpaceName    = newError(400, "bad-field-name", "blank between field name and colon")
	errFold         = newError(400, "obs-fold", "field line begins with a blank")
	errFieldValue   = newError(400, "bad-field-value", "control character in a field value")
	errUnderscore   = newError(400, "underscore", "field name has an underscore")
	errHeadLarge    = newError(431, "head-too-large", "header fields are too large")
	errManyFields   = newError(431, "too-many-fields", "too many header fields")
	errNameLong     = newError(431, "field-name-too-long", "field name is too long")
	errDuplicate    = newError(400, "duplicate-field", "field that must come once came twice")
	errNoHost       = newError(400, "missing-host", "request without Host")
	errHost         = newError(400, "bad-host", "malformed host or port")
	errHostMismatch = newError(400, "host-mismatch", "Host differs from the request target")
	errExpect       = newError(417, "unknown-expectation", "expectation is not 100-continue")
)

// Framing.
var (
	errLength       = newError(400, "bad-content-length", "malformed Content-Length")
	errLengthTwice  = newError(400, "duplicate-content-length", "more than one Content-Length")
	errCoding       = newError(400, "bad-transfer-encoding", "malformed Transfer-Encoding")
	errCodingTwice  = newError(400, "duplicate-transfer-encoding", "more than one Transfer-Encoding")
	errCodingOther  = newError(501, "unsupported-transfer-coding", "transfer coding other than chunked")
	errCodingOld    = newError(400, "transfer-encoding-in-1.0", "Transfer-Encoding in HTTP/1.0")
	errBothFramings = newError(400, "length-and-chunked", "Content-Length and Transfer-Encoding together")
	errNominated    = newError(400, "framing-nominated", "Connection names a field that says where the message goes or ends")
	errBodiless     = newError(400, "framing-without-body", "Content-Length or Transfer-Encoding where there is no body")
	errChunkSize    = newError(400, "bad-chunk-size", "malformed chunk size")
	errChunkExt     = newError(400, "bad-chunk-extension", "malformed chunk extension")
	errChunkLine    = newError(400, "chunk-line-too-long", "line of a chunk size is too long")
	errChunkEnd     = newError(400, "bad-chunk-end", "chunk is not followed by CRLF")
	errChunkTiny    = newError(400, "chunk-overhead", "chunks have too little payload")
)

func newError(status int, reason, text string) *Error {
	e := Error{Status: status, Reason: reason, text: text}
	u := e
	u.Status = 502
	u.upstream = &u
	e.upstream = &u
	return &e
}

// fromUpstream gives an error of the shared steps its status for a response.
func fromUpstream(err error) error {
	if e, ok := err.(*Error); ok {
		return e.upstream
	}
	return err
}
