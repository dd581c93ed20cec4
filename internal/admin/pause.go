package admin

import (
	"net"
	"sync"
	"time"
)

// listener is a listener that can stop to accept without closing.
type listener struct {
	net.Listener // of package net: a deadline ends its Accept

	mu        sync.Mutex // guards what follows, not the Accept itself
	changed   sync.Cond  // of any of them
	paused    bool
	accepting bool // Accept of the listener below is running
	closed    bool
	err       error // of the Close
}

func newListener(ln net.Listener) *listener {
	l := &listener{Listener: ln}
	l.changed.L = &l.mu
	return l
}

// Accept waits for a connection, while paused for resume or Close first. It is
// for one goroutine.
func (l *listener) Accept() (net.Conn, error) {
	for {
		if !l.enter() {
			return nil, net.ErrClosed
		}
		c, err := l.Listener.Accept()
		again := l.leave()
		if err == nil {
			return identify(c), nil
		}
		if e, ok := err.(net.Error); !ok || !e.Timeout() || !again {
			return nil, err
		}
	}
}

// enter waits until an Accept may begin; false: never.
func (l *listener) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.paused && !l.closed {
		l.changed.Wait()
	}
	l.accepting = !l.closed
	return l.accepting
}

// leave says that an Accept has ended, and returns whether another may follow.
func (l *listener) leave() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepting = false
	l.changed.Broadcast()
	return !l.closed
}

// pause returns when no Accept runs; none begins until resume.
func (l *listener) pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || !l.setDeadline(time.Unix(1, 0)) {
		return
	}
	l.paused = true
	for l.accepting && l.paused {
		l.changed.Wait()
	}
}

func (l *listener) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.setDeadline(time.Time{})
	l.paused = false
	l.changed.Broadcast()
}

// setDeadline is false for a listener that knows none: it cannot be paused.
func (l *listener) setDeadline(t time.Time) bool {
	d, ok := l.below().(interface{ SetDeadline(time.Time) error })
	return ok && d.SetDeadline(t) == nil
}

// fd is the number of the descriptor. net's File would make another, which turns
// to blocking, and with it the socket, as soon as one asks for its number.
func (l *listener) fd() (int, bool) {
	switch ln := l.below().(type) {
	case *net.UnixListener:
		return number(ln.SyscallConn())
	case *net.TCPListener:
		return number(ln.SyscallConn())
	}
	return 0, false
}

func number(raw interface{ Control(func(uintptr)) error }, err error) (fd int, ok bool) {
	if err == nil {
		err = raw.Control(func(n uintptr) { fd = int(n) })
	}
	return fd, err == nil
}

// below is the listener of package net.
func (l *listener) below() net.Listener {
	if n, ok := l.Listener.(*named); ok {
		return n.Listener
	}
	return l.Listener
}

// Close ends Accept and closes the socket here. Later calls do nothing.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		l.changed.Broadcast()
		l.err = l.Listener.Close()
	}
	return l.err
}
