package hotrestart

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// A message travels as one or more packets. Each packet begins with
//
//	 0       4       8      10      12
//	+-------+-------+-------+-------+----------------
//	| number| size  | part  | 0     | up to 64 KiB − 12
//	+-------+-------+-------+-------+----------------
//
// big-endian: the number of the message (counted per sender), the size of the
// whole message in bytes, the number of the packet within it. The parts of a
// message follow each other without a gap; descriptors ride on the first ones,
// at most 128 each, and parts that are only needed for them are empty.
const (
	packetHead   = 12
	maxPacket    = 64 << 10
	maxPayload   = maxPacket - packetHead
	fdsPerPacket = 128

	// maxMessage and maxDescriptors bound what a peer can have us hold: a hundred
	// thousand series with all their labels are 20 MiB.
	maxMessage     = 256 << 20
	maxDescriptors = 16 << 10
)

// errMalformed is what a peer can do wrong on the wire.
var errMalformed = errors.New("malformed packet")

// assembler puts packets together again.
type assembler struct {
	number uint32
	part   uint16
	active bool
	size   int
	data   []byte
	fds    []int
}

// add takes a packet with its descriptors, which are the assembler's from the
// call on, and reports whether more follows. The wanted count of descriptors is
// not known here: see Conn.read.
func (a *assembler) add(p []byte, fds []int) (complete bool, err error) {
	a.fds = append(a.fds, fds...)
	if len(p) < packetHead {
		return false, fmt.Errorf("%w: %d bytes", errMalformed, len(p))
	}
	number, size := binary.BigEndian.Uint32(p), binary.BigEndian.Uint32(p[4:])
	part, zero := binary.BigEndian.Uint16(p[8:]), binary.BigEndian.Uint16(p[10:])
	switch {
	case zero != 0:
		return false, fmt.Errorf("%w: unknown flags %#x", errMalformed, zero)
	case size > maxMessage:
		return false, fmt.Errorf("%w: a message of %d bytes; %d are the limit", errMalformed, size, maxMessage)
	case len(a.fds) > maxDescriptors:
		return false, fmt.Errorf("%w: over %d descriptors", errMalformed, maxDescriptors)
	case !a.active && part != 0:
		return false, fmt.Errorf("%w: part %d without its beginning", errMalformed, part)
	case !a.active:
		a.active, a.number, a.size, a.part = true, number, int(size), 0
		a.data = make([]byte, 0, min(a.size, 1<<20))
	case number != a.number || int(size) != a.size || part != a.part:
		return false, fmt.Errorf("%w: part %d of message %d where part %d of %d was due", errMalformed, part, number, a.part, a.number)
	}
	a.part++
	a.data = append(a.data, p[packetHead:]...)
	if len(a.data) > a.size {
		return false, fmt.Errorf("%w: %d bytes in a message of %d", errMalformed, len(a.data), a.size)
	}
	return len(a.data) == a.size, nil
}

// take gives the message away.
func (a *assembler) take() (data []byte, fds []int) {
	data, fds = a.data, a.fds
	*a = assembler{}
	return data, fds
}

// drop closes what has come so far.
func (a *assembler) drop() {
	closeAll(a.fds)
	*a = assembler{}
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// readPacket reads one packet into buf with the descriptors that rode on it,
// close-on-exec. What the kernel cut off fails the read: at the descriptor limit
// it drops descriptors without another word (unix(7), recvmsg(2) MSG_CTRUNC).
func readPacket(c *net.UnixConn, buf, oob []byte) (n int, fds []int, err error) {
	n, oobn, flags, _, err := c.ReadMsgUnix(buf, oob)
	if oobn > 0 {
		fds = descriptors(oob[:oobn])
	}
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = fmt.Errorf("%w: the kernel cut it (flags %#x); is the descriptor limit reached?", errMalformed, flags)
	}
	if err == nil && n == 0 {
		err = net.ErrClosed
	}
	if err != nil {
		closeAll(fds)
		return 0, nil, err
	}
	return n, fds, nil
}

func descriptors(oob []byte) (fds []int) {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range list {
		if got, err := unix.ParseUnixRights(&list[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

// writeMessage sends a message in as many packets as it takes, until deadline.
func writeMessage(c *net.UnixConn, number uint32, data []byte, fds []int, deadline time.Time) error {
	if len(data) > maxMessage {
		return fmt.Errorf("a message of %d bytes is over the limit of %d", len(data), maxMessage)
	}
	if err := c.SetWriteDeadline(deadline); err != nil {
		return err
	}
	buf := make([]byte, packetHead, packetHead+min(len(data), maxPayload))
	binary.BigEndian.PutUint32(buf, number)
	binary.BigEndian.PutUint32(buf[4:], uint32(len(data)))
	for part := 0; part == 0 || len(data) > 0 || len(fds) > 0; part++ {
		binary.BigEndian.PutUint16(buf[8:], uint16(part))
		var oob []byte
		if n := min(len(fds), fdsPerPacket); n > 0 {
			oob = unix.UnixRights(fds[:n]...)
			fds = fds[n:]
		}
		n := min(len(data), maxPayload)
		if len(fds) > 0 {
			n = min(n, max(0, len(data)-1)) // the last byte rides with the last descriptors: it completes the message
		}
		packet := append(buf[:packetHead], data[:n]...)
		data = data[n:]
		if _, _, err := c.WriteMsgUnix(packet, oob, nil); err != nil {
			return err
		}
	}
	return nil
}
