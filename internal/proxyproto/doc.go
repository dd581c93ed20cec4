// Package proxyproto reads and writes the header of the PROXY protocol,
// versions 1 and 2, as doc/proxy-protocol.txt of HAProxy has it; "section"
// means one of that document. It does no I/O.
//
// Parse is given the bytes of a connection that have come so far and says
// NeedMore until the header is complete. It gives the same result in whatever
// pieces the bytes come. It is strict: what does not match the document exactly
// is refused, as section 2 asks for, and so is what two receivers could read
// differently, such as a TLV that came twice.
//
//	which version, if any      (parse.go)
//	version 1, a line of text  (v1.go)
//	version 2, binary          (v2.go) and its TLVs (tlv.go)
//	both, written              (append.go)
//
// Who may send the header is for the caller to decide before the first byte is
// read: a client that may send it can claim any address (section 5).
package proxyproto
