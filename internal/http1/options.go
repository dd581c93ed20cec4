package http1

import "belay/internal/header"

// Options are the limits and the switches of the codec. They are only read and
// may be shared by all messages of a listener or cluster. The zero value is
// strict and has default limits, except that of Header, whose zero is no limit.
type Options struct {
	// MaxRequestLine bounds the request target, or the status line of a
	// response, in bytes; 0: 8192. Method and version come on top of it.
	MaxRequestLine int
	// Header bounds the fields of a head, and once more those of a trailer
	// section. Bytes counts the lines as they come, blanks and CRLF included.
	Header header.Limits
	// MaxChunkLine bounds one line of chunk size and extensions, in bytes
	// before its CRLF; 0: 4096.
	MaxChunkLine int
	// MaxChunkOverhead bounds by how many bytes the framing of chunks may exceed
	// four times their payload; what large chunks save is not kept for later.
	// 0: 64 KiB, negative: no bound. One-byte chunks exceed it after 65 536.
	MaxChunkOverhead int

	// DefaultHost is taken for an HTTP/1.0 request without Host; "" refuses it.
	DefaultHost string
	// AllowEqualLengths takes several Content-Length values that are equal for one.
	AllowEqualLengths bool
	// AllowLeadingZeros takes Content-Length: 005 for 5.
	AllowLeadingZeros bool
	// AllowHostMismatch has the authority of an absolute-form target win over a
	// different Host field (RFC 9112 section 3.2.2).
	AllowHostMismatch bool
	// Underscores says what to do with "_" in the name of a request's field, or
	// of a trailer's of either direction.
	Underscores Underscores
	// AllowEscapedControl lets %00, %0a and %0d stand in a path.
	AllowEscapedControl bool
	// AllowBackslash lets "\" stand in a path.
	AllowBackslash bool
	// AllowZeroLength drops Content-Length: 0 from a 1xx or 204 response, where
	// RFC 9110 section 8.6 forbids the field, instead of refusing the response.
	AllowZeroLength bool
}

const (
	defaultLine          = 8 << 10
	defaultChunkLine     = 4 << 10
	defaultChunkOverhead = 64 << 10
	defaultTrailer       = 64 << 10 // bytes of a trailer section when Header has no limit
)

func (o *Options) maxLine() int {
	if o.MaxRequestLine > 0 {
		return o.MaxRequestLine
	}
	return defaultLine
}

func (o *Options) maxChunkLine() int {
	if o.MaxChunkLine > 0 {
		return o.MaxChunkLine
	}
	return defaultChunkLine
}

// Underscores is what happens to a field whose name has a "_". Many servers
// map "_" and "-" to one letter (CGI), so that such a field can pass for
// another one, such as Content_Length.
type Underscores uint8

const (
	// UnderscoreDrop leaves the field out.
	UnderscoreDrop Underscores = iota
	// UnderscoreReject refuses the message.
	UnderscoreReject
	// UnderscoreAllow takes it as any other field.
	UnderscoreAllow
)

// String returns the value of the configuration key underscores.
func (u Underscores) String() string {
	switch u {
	case UnderscoreDrop:
		return "drop"
	case UnderscoreReject:
		return "reject"
	case UnderscoreAllow:
		return "allow"
	}
	return "unknown"
}
