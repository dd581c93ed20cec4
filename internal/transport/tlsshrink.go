package transport

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// connBuffers are the places in a tls.Conn of the buffers that it keeps for
// ever: rawInput as large as the largest record read so far, hand as large as
// the hello, and input, which points into rawInput.
var connBuffers = findConnBuffers()

type bufferPlaces struct {
	rawInput, hand, input uintptr
	known                 bool
}

// findConnBuffers looks the fields up by name and type, so that a crypto/tls
// which has changed costs memory and nothing else.
func findConnBuffers() bufferPlaces {
	conn, buffer := reflect.TypeFor[tls.Conn](), reflect.TypeFor[bytes.Buffer]()
	rawInput, ok1 := conn.FieldByName("rawInput")
	hand, ok2 := conn.FieldByName("hand")
	input, ok3 := conn.FieldByName("input")
	if !ok1 || !ok2 || !ok3 || rawInput.Type != buffer || hand.Type != buffer || input.Type != reflect.TypeFor[bytes.Reader]() {
		return bufferPlaces{}
	}
	return bufferPlaces{rawInput.Offset, hand.Offset, input.Offset, true}
}

// Shrink lets go of the memory that crypto/tls keeps in an open connection:
// 3 KiB, or 20 once a full record came. The next record allocates it anew, so
// it is for connections that have been idle for seconds.
func (t *TLS) Shrink() {
	if !connBuffers.known || t.flags&tlsOpen == 0 {
		return
	}
	conn := unsafe.Pointer(t.conn)
	rawInput := (*bytes.Buffer)(unsafe.Add(conn, connBuffers.rawInput))
	hand := (*bytes.Buffer)(unsafe.Add(conn, connBuffers.hand))
	input := (*bytes.Reader)(unsafe.Add(conn, connBuffers.input))
	if rawInput.Len() == 0 && input.Len() == 0 {
		*rawInput, *input = bytes.Buffer{}, bytes.Reader{}
	}
	if hand.Len() == 0 {
		*hand = bytes.Buffer{}
	}
}
