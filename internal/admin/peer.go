package admin

import (
	"fmt"
	"net"

	"belay/internal/eventloop"
)

// peerConn is a connection whose remote address is who connected: net/http hands
// that through, and a Unix client has no other.
type peerConn struct {
	net.Conn
	peer peer
}

// RemoteAddr is the client's user and process.
func (c *peerConn) RemoteAddr() net.Addr { return c.peer }

// peer is a user and a process, as they were at connect.
type peer struct{ uid, pid int }

// Network is that of the connection.
func (peer) Network() string { return "unix" }

// String is how the log names the client.
func (p peer) String() string { return fmt.Sprintf("uid %d, pid %d", p.uid, p.pid) }

// identify finds out who a client of a Unix socket is. Others stay as they are.
func identify(c net.Conn) net.Conn {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return c
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return c
	}
	var p peer
	if raw.Control(func(fd uintptr) { p.uid, p.pid, err = eventloop.UnixUser(int(fd)) }) != nil || err != nil {
		return c
	}
	return &peerConn{c, p}
}
