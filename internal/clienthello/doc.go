// Package clienthello reads the TLS ClientHello with which a connection begins,
// from the bytes that have come so far. It does no I/O and consumes nothing:
// the same bytes go to the TLS socket, or through to a cluster, afterwards.
//
// Parse is incremental: it is given all bytes since the first one and says
// NeedMore until the hello is complete. It looks at each record header once and
// takes the message apart when its last byte is there, so that calls with more
// and more bytes cost no more than linear in their sum of new bytes, and give
// the same result in whatever pieces the bytes come. The steps:
//
//	is it TLS at all              (plain.go)
//	records and message header    (record.go), as they come
//	fields of the message         (parse.go), once it is complete
//	extensions                    (extensions.go, name.go)
//	JA4, if somebody asks for it  (ja4.go)
//
// It is meant for TLS 1.0 to 1.3 over TCP (RFC 2246, 4346, 5246, 8446), and it
// is stricter than crypto/tls only where these say MUST. A hello that belay
// accepts is not yet one that a handshake succeeds with.
package clienthello
