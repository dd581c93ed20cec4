// Package http1 turns bytes into HTTP/1 messages and back. It does no I/O.
//
// Request, Response and Body are incremental: they are given the bytes that
// have come so far and say ErrNeedMore until the head or body is complete. They
// look at every byte once, in the order of the wire, and keep offsets, so that
// the buffer may grow and move between two calls. For that reason a message
// gives the same result, and the same error at the same byte, in whatever
// pieces it arrives.
//
// A head is read in these steps:
//
//	request line or status line  (request.go, target.go, response.go)
//	field lines, one by one      (fields.go); each goes into a header.Map
//	fields the codec acts upon   (framing.go, host.go), when their line ends
//	what they mean together      (finish in request.go and response.go)
//
// The codec is strict: where RFC 9112 lets a recipient choose, it refuses. What
// two recipients could read differently is never passed on. Options has the few
// rules that can be loosened.
package http1
