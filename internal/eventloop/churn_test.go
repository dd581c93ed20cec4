package eventloop

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// echo is a connection of the echo server: what a proxy does with the loop, in
// small. It is the handler of its events, of its timer and of its task.
type echo struct {
	w     *Worker
	fd    int
	token Token
	idle  Timer
	out   []byte // lent by the worker; nil when nothing waits
	sent  int
	size  int
	done  func()
}

func (e *echo) HandleEvents(Events) { e.pump() }
func (e *echo) RunTask()            { e.pump() }
func (e *echo) HandleTimer(*Timer)  { e.close() }

// pump moves one buffer at a time and goes on in the next turn.
func (e *echo) pump() {
	if e.fd < 0 {
		return
	}
	e.w.SetTimer(&e.idle, e, e.w.Now()+int64(time.Minute))
	if e.out == nil {
		e.out = e.w.Get(4096)
		n, errno := Recv(e.fd, e.out)
		if errno == syscall.EAGAIN {
			e.release()
			return
		}
		if errno != 0 || n == 0 {
			e.close()
			return
		}
		e.size, e.sent = n, 0
	}
	n, errno := Sendv(e.fd, e.out[e.sent:e.size], nil)
	if errno == syscall.EAGAIN {
		return
	}
	if errno != 0 {
		e.close()
		return
	}
	if e.sent += n; e.sent == e.size {
		e.release()
	}
	e.w.Defer(e)
}

func (e *echo) release() {
	e.w.Put(e.out)
	e.out = nil
}

func (e *echo) close() {
	if e.out != nil {
		e.release()
	}
	e.w.StopTimer(&e.idle)
	e.w.Forget(e.token)
	Close(e.fd)
	e.fd = -1
	e.done()
}

// TestChurn: clients come, talk and go in every way, on two workers that share a
// port. Each gets its own bytes back; nothing is left at the end.
func TestChurn(t *testing.T) {
	c := ListenConfig{ReusePort: true, Backlog: 512, Nodelay: true}
	at := loopback(0)
	var open sync.WaitGroup
	var workers [2]*Worker
	for i := range workers {
		w := startWorker(t)
		workers[i] = w
		var fd int
		fd, at = mustListen(t, at, c)
		do(t, w, func() {
			add(t, w, fd, Level, func(Events) {
				for {
					nfd, _, errno := Accept(fd)
					if errno != 0 {
						return
					}
					e := &echo{w: w, fd: nfd, done: open.Done}
					var err error
					if e.token, err = w.Add(nfd, e, Edge); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
	var clients sync.WaitGroup
	for id := range 8 {
		clients.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(id), 1))
			for range 60 {
				open.Add(1)
				churn(t, rng, at.String())
			}
		})
	}
	clients.Wait()
	open.Wait()
	for _, w := range workers {
		do(t, w, func() {
			if in, _ := w.BufferStats(); in != 0 {
				t.Errorf("%d bytes of buffers are still lent", in)
			}
		})
	}
}

// churn is one connection: some messages, then an end of some kind.
func churn(t *testing.T, rng *rand.Rand, at string) {
	conn, err := net.Dial("tcp", at)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	for range rng.IntN(4) {
		msg := bytes.Repeat([]byte{byte(rng.Uint32())}, 1+rng.IntN(50_000))
		go conn.Write(msg)
		got := make([]byte, len(msg))
		if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, msg) {
			t.Errorf("echo of %d bytes: %v", len(msg), err)
			return
		}
	}
	switch rng.IntN(3) {
	case 0:
		conn.(*net.TCPConn).SetLinger(0)
	case 1:
		conn.(*net.TCPConn).CloseWrite()
		if rest, err := io.ReadAll(conn); err != nil || len(rest) != 0 {
			t.Errorf("after the end: %d bytes, %v", len(rest), err)
		}
	case 2:
		conn.Write([]byte("and gone"))
	}
}
