package hotrestart

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	pb "belay/internal/hotrestart/hotrestartpb"
)

// ErrGone says that the peer's end of the connection is closed: it has left or
// died.
var ErrGone = errors.New("the other process is gone")

// Refused is what a peer answered instead of doing what it was asked.
type Refused struct {
	Code pb.Error_Code
	Text string
}

func (r *Refused) Error() string { return r.Text }

// Conn is one connection between two processes. Both sides may call. Its methods
// may be called from any goroutine.
type Conn struct {
	sock   *net.UnixConn
	pid    int
	handle func(*Request)

	wmu    sync.Mutex // held while the packets of one message are sent
	number uint32

	mu      sync.Mutex // guards what follows
	nextID  uint64
	pending map[uint64]chan answer
	err     error // why nothing can be sent any more
	closed  bool

	exchange exchange // the node's

	requests chan *Request
	failed   chan struct{} // closed with the socket
	done     chan struct{}
}

type answer struct {
	msg *pb.Message
	fds []int
}

// Request is a message that the peer sent, a notice if Notice says so. Its
// descriptors are the handler's, which closes them.
type Request struct {
	*pb.Message
	FDs  []int
	conn *Conn
}

// Notice reports whether nobody waits for a reply.
func (r *Request) Notice() bool { return r.Id == 0 }

// Conn is where the request came from.
func (r *Request) Conn() *Conn { return r.conn }

// sendTime bounds how long a message may wait for a peer that reads nothing.
const sendTime = 5 * time.Second

// queued is how many requests of a peer wait for the handler before its socket
// is not read any further.
const queued = 64

// newConn takes over a connected seqpacket socket. handle is called for every
// request, one after another, on a goroutine of the connection; nil refuses all.
func newConn(sock *net.UnixConn, handle func(*Request)) (*Conn, error) {
	pid, uid, err := credentials(sock)
	if err != nil {
		_ = sock.Close()
		return nil, err
	}
	if uid != os.Getuid() {
		_ = sock.Close()
		return nil, fmt.Errorf("process %d of uid %d refused: the hot-restart socket is for uid %d alone", pid, uid, os.Getuid())
	}
	c := &Conn{
		sock: sock, pid: pid, handle: handle, pending: make(map[uint64]chan answer),
		requests: make(chan *Request, queued), failed: make(chan struct{}), done: make(chan struct{}),
	}
	go c.serve()
	go c.read()
	return c, nil
}

// credentials tells who is at the other end (SO_PEERCRED, unix(7)).
func credentials(sock *net.UnixConn) (pid, uid int, err error) {
	raw, err := sock.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil {
		err = cerr
	}
	if err != nil {
		return 0, 0, fmt.Errorf("SO_PEERCRED: %w", err)
	}
	return int(cred.Pid), int(cred.Uid), nil
}

// Dial connects to the socket at path; the time limits the wait for a process
// whose backlog is full.
func Dial(path string, limit time.Duration, handle func(*Request)) (*Conn, error) {
	d := net.Dialer{Timeout: limit}
	c, err := d.Dial("unixpacket", path)
	if err != nil {
		return nil, err // names the path
	}
	return newConn(c.(*net.UnixConn), handle)
}

// PeerPID is the process at the other end.
func (c *Conn) PeerPID() int { return c.pid }

// Done is closed when the connection has ended (the peer left, died or broke the
// protocol, or Close was called) and the handler has had every request that came
// before.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says why the connection ended; ErrGone is in it when the peer closed it.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection. Calls under way fail.
func (c *Conn) Close() {
	c.fail(net.ErrClosed)
}

// gone notes that the peer takes nothing any more. What it has sent before is still
// read; the end comes behind it.
func (c *Conn) gone(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = why
	}
}

func (c *Conn) fail(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	if c.err == nil {
		c.err = why
	}
	_ = c.sock.Close() // which ends read, which ends serve
	close(c.failed)
	c.pending = nil
}

// Call sends a request and waits for its reply until ctx ends. The reply's
// descriptors are the caller's; fds stay the caller's.
func (c *Conn) Call(ctx context.Context, m *pb.Message, fds ...int) (*pb.Message, []int, error) {
	reply := make(chan answer, 1)
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return nil, nil, c.callError(m, c.err)
	}
	c.nextID++
	m.Id = c.nextID
	c.pending[m.Id] = reply
	c.mu.Unlock()
	defer c.forget(m.Id)

	if err := c.send(ctx, m, fds); err != nil {
		return nil, nil, c.callError(m, err)
	}
	select {
	case a := <-reply:
		return c.result(m, a)
	case <-c.failed:
		select { // the reply may have come just before the end
		case a := <-reply:
			return c.result(m, a)
		default:
			return nil, nil, c.callError(m, c.Err())
		}
	case <-ctx.Done():
		return nil, nil, c.callError(m, fmt.Errorf("no answer: %w", context.Cause(ctx)))
	}
}

func (c *Conn) result(m *pb.Message, a answer) (*pb.Message, []int, error) {
	if e := a.msg.GetError(); e != nil {
		closeAll(a.fds)
		return nil, nil, &Refused{e.Code, e.Text}
	}
	return a.msg, a.fds, nil
}

func (c *Conn) callError(m *pb.Message, err error) error {
	return fmt.Errorf("%s to process %d: %w", name(m), c.pid, err)
}

// forget ends the wait for a reply; one that comes later is dropped.
func (c *Conn) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, id)
}

// Notify sends a message that has no reply.
func (c *Conn) Notify(m *pb.Message) error {
	m.Id = 0
	if err := c.send(context.Background(), m, nil); err != nil {
		return c.callError(m, err)
	}
	return nil
}

// Reply answers a request once; to a notice it does nothing. The descriptors
// stay the caller's.
func (r *Request) Reply(m *pb.Message, fds ...int) {
	if r.Notice() {
		return
	}
	m.Id, m.Reply = r.Id, true
	if err := r.conn.send(context.Background(), m, fds); err != nil && !errors.Is(err, ErrGone) {
		r.conn.fail(fmt.Errorf("reply: %w", err))
	}
}

// Refuse answers with an error.
func (r *Request) Refuse(code pb.Error_Code, format string, args ...any) {
	r.Reply(&pb.Message{Body: &pb.Message_Error{Error: &pb.Error{Code: code, Text: fmt.Sprintf(format, args...)}}})
}

// Ack answers that it is done.
func (r *Request) Ack() { r.Reply(&pb.Message{Body: &pb.Message_Ack{Ack: &pb.Ack{}}}) }

func (c *Conn) send(ctx context.Context, m *pb.Message, fds []int) error {
	m.Descriptors = uint32(len(fds))
	data, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	deadline := time.Now().Add(sendTime)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.number++
	if err := writeMessage(c.sock, c.number, data, fds, deadline); err != nil {
		if err = peerError(err); errors.Is(err, ErrGone) {
			c.gone(err)
		} else {
			c.fail(err) // half a message may be out: nothing can follow it
		}
		return err
	}
	return nil
}

// peerError says ErrGone where the kernel says it in its own ways.
func peerError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, net.ErrClosed) {
		return ErrGone
	}
	return err
}

// read takes packets until the end and deals them out.
func (c *Conn) read() {
	defer close(c.requests)
	buf, oob := make([]byte, maxPacket), make([]byte, unix.CmsgSpace(fdsPerPacket*4))
	var a assembler
	defer a.drop()
	reset := false
	for {
		n, fds, err := readPacket(c.sock, buf, oob)
		if errors.Is(err, unix.ECONNRESET) && !reset {
			// The peer has closed a socket in which something was unread. Linux tells
			// that, once, before what the peer has sent.
			reset = true
			continue
		}
		if err != nil {
			c.fail(peerError(err))
			return
		}
		complete, err := a.add(buf[:n], fds)
		if err != nil {
			c.fail(err)
			return
		}
		if complete && !c.deal(a.take()) {
			return
		}
	}
}

// deal hands a message to whom it is for. It reports false when the connection
// is of no more use.
func (c *Conn) deal(data []byte, fds []int) bool {
	m := &pb.Message{}
	if err := proto.Unmarshal(data, m); err != nil {
		closeAll(fds)
		c.fail(fmt.Errorf("%w: %w", errMalformed, err))
		return false
	}
	if int(m.Descriptors) != len(fds) {
		closeAll(fds)
		c.fail(fmt.Errorf("%w: %s came with %d descriptors, not %d", errMalformed, name(m), len(fds), m.Descriptors))
		return false
	}
	if m.Reply {
		c.mu.Lock()
		reply := c.pending[m.Id]
		delete(c.pending, m.Id)
		c.mu.Unlock()
		if reply == nil { // its caller has given up
			closeAll(fds)
			return true
		}
		reply <- answer{m, fds}
		return true
	}
	select {
	case c.requests <- &Request{m, fds, c}:
		return true
	case <-c.failed:
		closeAll(fds)
		return false
	}
}

// serve has the handler answer requests in the order in which they came.
func (c *Conn) serve() {
	defer close(c.done)
	for r := range c.requests {
		if c.handle == nil || r.Body == nil {
			closeAll(r.FDs)
			r.Refuse(pb.Error_UNKNOWN_MESSAGE, "this process does not know the message")
			continue
		}
		c.handle(r)
	}
}

// name is what the protocol calls a message.
func name(m *pb.Message) string {
	r := m.ProtoReflect()
	if f := r.WhichOneof(r.Descriptor().Oneofs().ByName("body")); f != nil {
		return string(f.Message().Name())
	}
	return "an unknown message"
}

// Server accepts connections at a path.
type Server struct {
	path string
	info os.FileInfo
	ln   *net.UnixListener
}

// Serve listens at path with mode 0600 and calls accepted with each connection
// of a process of the same user; what else comes is closed and told to refused.
// handle is given every request of every connection.
func Serve(path string, handle func(*Request), refused func(error)) (*Server, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	s := &Server{path: path, ln: ln}
	if err = os.Chmod(path, 0o600); err == nil { // who connected before is judged by uid all the same
		s.info, err = os.Lstat(path)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	go func() {
		for {
			sock, err := ln.AcceptUnix()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				refused(err)
				time.Sleep(acceptRest)
				continue
			}
			if _, err := newConn(sock, handle); err != nil {
				refused(err)
			}
		}
	}()
	return s, nil
}

// acceptRest keeps a failing accept(2), such as at the descriptor limit, from
// spinning.
const acceptRest = 50 * time.Millisecond

// Close stops accepting and removes the socket file if it is still ours.
func (s *Server) Close() {
	if now, err := os.Lstat(s.path); err == nil && s.info != nil && os.SameFile(now, s.info) {
		_ = os.Remove(s.path)
	}
	_ = s.ln.Close()
}

// inherit makes a Conn of a descriptor that the process was started with.
func inherit(fd int, handle func(*Request)) (*Conn, error) {
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "hot-restart hook")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d of the hook: %w", fd, err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("descriptor %d of the hook is no Unix socket", fd)
	}
	return newConn(u, handle)
}

// pair makes two connected seqpacket sockets: one as a Conn, one to pass on.
func pair(handle func(*Request)) (*Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	c, err := inherit(fds[0], handle)
	if err != nil {
		_ = unix.Close(fds[1])
		return nil, nil, err
	}
	return c, os.NewFile(uintptr(fds[1]), "hot-restart child"), nil
}
