package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// handshakeClients is so few that no server has a queue of handshakes, and so
// many that none waits for the clients.
const handshakeClients = 32

// handshakeLoad makes a connection for each request, in a closed loop. With
// resume all of them take up one session, from a connection made before; a
// handshake that is not what was asked for counts as an error.
func handshakeLoad(clients int, curve tls.CurveID, resume bool) func(*lab, string) (sample, error) {
	return func(l *lab, url string) (sample, error) {
		addr, _ := address(url)
		h := handshaker{addr: addr, conf: clientTLS(curve)}
		if resume {
			session := &oneSession{}
			h.conf.ClientSessionCache = session
			if err := h.once(); err != nil {
				return sample{}, err
			}
			if !session.keep() {
				return sample{}, errors.New("the server gave no session to resume")
			}
			h.resume = true
		}
		began := time.Now()
		end := began.Add(l.s.duration)
		times := make([][]time.Duration, clients)
		failed := make([]error, clients)
		var errs atomic.Int64
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() {
				for start := time.Now(); start.Before(end); start = time.Now() {
					if err := h.once(); err != nil {
						failed[i] = err
						errs.Add(1)
						continue
					}
					times[i] = append(times[i], time.Since(start))
				}
			})
		}
		wg.Wait()
		m, err := latencies(times)
		if err != nil {
			return sample{}, errors.Join(failed...)
		}
		m.seconds, m.errors = time.Since(began).Seconds(), errs.Load()
		return m, nil
	}
}

// handshaker makes connections for one request each.
type handshaker struct {
	addr   string
	conf   *tls.Config
	resume bool // a handshake has to be a resumed one
}

// once connects, has one request answered and waits for the server's end.
func (h *handshaker) once() error {
	d := net.Dialer{KeepAlive: -1}
	nc, err := d.Dial("tcp", h.addr)
	if err != nil {
		return err
	}
	defer func() { _ = nc.Close() }()
	if err := nc.SetDeadline(time.Now().Add(replyWait)); err != nil {
		return err
	}
	c := tls.Client(nc, h.conf)
	if err := c.Handshake(); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "GET "+ownPath+" HTTP/1.1\r\nHost: "+tlsName+"\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	var b [1024]byte
	n := 0
	for n < len(b) {
		got, err := c.Read(b[n:])
		n += got
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if reply := b[:n]; !bytes.HasPrefix(reply, []byte("HTTP/1.1 204")) || !bytes.HasSuffix(reply, []byte("\r\n\r\n")) {
		return fmt.Errorf("the reply is %q", reply)
	}
	if got := c.ConnectionState().DidResume; got != h.resume {
		return fmt.Errorf("handshake resumed: %v, asked for: %v", got, h.resume)
	}
	return nil
}

// oneSession is a session cache that keeps the first session for ever, so that
// every connection takes up the same.
type oneSession struct {
	mu      sync.Mutex
	session *tls.ClientSessionState
	kept    bool
}

// keep begins to hand the session out; there has to be one.
func (o *oneSession) keep() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = o.session != nil
	return o.kept
}

// Get implements [tls.ClientSessionCache].
func (o *oneSession) Get(string) (*tls.ClientSessionState, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.kept {
		return nil, false
	}
	return o.session, true
}

// Put implements [tls.ClientSessionCache].
func (o *oneSession) Put(_ string, s *tls.ClientSessionState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.session == nil {
		o.session = s
	}
}

// floodLoad is openLoad on established connections while others flood the server
// with handshakes.
func floodLoad(rate, conns, clients int) func(*lab, string) (sample, error) {
	return func(l *lab, url string) (sample, error) {
		open, err := establish(url, conns)
		defer hangUp(open)
		if err != nil {
			return sample{}, err
		}
		addr, _ := address(url)
		f, err := startFlood(addr, clients)
		if err != nil {
			return sample{}, err
		}
		m, err := paceAll(open, rate, l.s.duration)
		m.handshakes = f.stop()
		return m, err
	}
}

// flood is clients that send the same ClientHello again and again and go away as
// soon as the server has answered, so as an attacker would: the server computes
// a key exchange and a signature, the client nothing.
type flood struct {
	addr  string
	hello []byte
	began time.Time
	end   chan struct{}
	wg    sync.WaitGroup
	done  atomic.Int64
}

func startFlood(addr string, clients int) (*flood, error) {
	hello, err := recordHello(clientTLS(tls.X25519))
	if err != nil {
		return nil, err
	}
	f := &flood{addr: addr, hello: hello, began: time.Now(), end: make(chan struct{})}
	for range clients {
		f.wg.Go(f.run)
	}
	return f, nil
}

// stop ends the flood and returns how many handshakes a second were answered.
func (f *flood) stop() float64 {
	close(f.end)
	f.wg.Wait()
	return float64(f.done.Load()) / time.Since(f.began).Seconds()
}

// run is one client. A server that refuses gets a moment's rest: a loop of
// refused connections would measure our core.
func (f *flood) run() {
	for {
		select {
		case <-f.end:
			return
		default:
		}
		if f.once() == nil {
			f.done.Add(1)
			continue
		}
		select {
		case <-f.end:
		case <-time.After(time.Millisecond):
		}
	}
}

// once has one hello answered by a handshake record.
func (f *flood) once() error {
	d := net.Dialer{KeepAlive: -1}
	nc, err := d.Dial("tcp", f.addr)
	if err != nil {
		return err
	}
	defer func() { _ = nc.Close() }()
	// Reset at the end: no connection is left in TIME_WAIT.
	if err := nc.(*net.TCPConn).SetLinger(0); err != nil {
		return err
	}
	if err := nc.SetDeadline(time.Now().Add(replyWait)); err != nil {
		return err
	}
	if _, err := nc.Write(f.hello); err != nil {
		return err
	}
	var b [4096]byte
	if _, err := io.ReadAtLeast(nc, b[:], 6); err != nil {
		return err
	}
	const recordHandshake, serverHello = 22, 2 // RFC 8446, sections 5.1 and 4
	if b[0] != recordHandshake || b[5] != serverHello {
		return fmt.Errorf("the answer begins with % x", b[:6])
	}
	return nil
}

// recordHello is what a client with this configuration sends first.
func recordHello(conf *tls.Config) ([]byte, error) {
	var r recorder
	if err := tls.Client(&r, conf).Handshake(); !errors.Is(err, errRecorded) {
		return nil, fmt.Errorf("no ClientHello to record: %w", err)
	}
	return r.sent, nil
}

var errRecorded = errors.New("recorded")

// recorder is a connection that keeps what is written first and answers nothing.
type recorder struct {
	net.Conn
	sent []byte
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.sent == nil {
		r.sent = bytes.Clone(b)
	}
	return len(b), nil
}

func (r *recorder) Read([]byte) (int, error) { return 0, errRecorded }
