package test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"belay/test/harness"
)

// strict is a connection whose end is an error: crypto/tls takes one between two
// records for the end of the stream, close_notify or not.
type strict struct{ net.Conn }

var errNoNotify = errors.New("the connection ends without close_notify")

func (c strict) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == io.EOF {
		err = errNoNotify
	}
	return n, err
}

// strictly is a client over TLS that insists on close_notify.
func strictly(t *testing.T, addr string, cfg *tls.Config) *tls.Conn {
	t.Helper()
	c := tls.Client(strict{dialRaw(t, addr)}, cfg)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

// wantNotified reports a stream of strictly's that does not end with close_notify.
func wantNotified(t *testing.T, what string, c net.Conn) {
	t.Helper()
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Errorf("%s: %q and %v, want close_notify", what, b, err)
	}
}

// readReply reads one reply and leaves the connection where it ends.
func readReply(t *testing.T, c net.Conn, request string) {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	var head []byte
	for b := make([]byte, 1); !strings.HasSuffix(string(head), "\r\n\r\n"); head = append(head, b...) {
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatalf("%q, %v", head, err)
		}
	}
	var n int64
	for _, l := range lines(string(head)) {
		_, _ = fmt.Sscanf(l, "Content-Length: %d", &n)
	}
	if _, err := io.CopyN(io.Discard, c, n); err != nil {
		t.Fatal(err)
	}
}

// Whenever belay ends a connection by its own will, the client hears close_notify,
// and knows that nothing was cut off.
func TestTLSCloseNotify(t *testing.T) {
	t.Parallel()
	s := &site{tables: "[listener.web.tls]\ncertificates = [{ cert = \"self-signed\" }]\n[listener.web.timeouts]\nidle = \"1s\"\n", routes: fmt.Sprintf(respond, "x"), more: patient}
	d := serve(t, s)
	const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	var wg sync.WaitGroup
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, request := range map[string]string{ // side by side: one of them waits
			"Connection: close": "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
			"HTTP/1.0":          "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
			"a bad request":     "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
			"timeouts.idle":     get,
		} {
			c := strictly(t, s.addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: v})
			readReply(t, c, request)
			wg.Go(func() { wantNotified(t, fmt.Sprintf("%s %#x", name, v), c) })
		}
	}
	wg.Wait()
	before := strictly(t, s.addr, &tls.Config{InsecureSkipVerify: true})
	readReply(t, before, get)
	d.HotRestart()
	wantNotified(t, "hot restart", before)
	last := strictly(t, s.addr, &tls.Config{InsecureSkipVerify: true})
	readReply(t, last, get)
	d.Signal(syscall.SIGTERM)
	wantNotified(t, "stop", last)
}

// paused is a connection that stops in the middle of its first write.
type paused struct {
	net.Conn
	half, on chan bool // closed: half is out; go on
	began    bool
}

func (p *paused) Write(b []byte) (int, error) {
	if p.began {
		return p.Conn.Write(b)
	}
	p.began = true
	n, err := p.Conn.Write(b[:len(b)/2])
	if err != nil {
		return n, err
	}
	close(p.half)
	<-p.on
	m, err := p.Conn.Write(b[n:])
	return n + m, err
}

// A connection of TLS outlives the hot restart of what serves it, with what it is in
// the middle of.
func TestTLSThroughHotRestart(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"a.example"}})
	addr, web := harness.Addr(t), harness.Addr(t)
	d := harness.Start(t, fmt.Sprintf("[listener.db]\naddress = %q\nprotocol = \"tcp\"\ncluster = \"echo\"\n[listener.db.tls]\ncertificates = [%s]\n[cluster.echo]\n%s\n", addr, pairOf(server), endpoints(tcpServer(t, echoTCP)))+
		fmt.Sprintf("[listener.web]\naddress = %q\n[listener.web.tls]\ncertificates = [%s]\n[[listener.web.route]]\ncluster = \"http\"\n[cluster.http]\n%s\n", web, pairOf(server), endpoints(harness.NewEcho(t, "a").Addr))+patient)
	tunnel := strictly(t, addr, names(a, "a.example"))
	echoes(t, tunnel, "before")
	half, _ := secure(t, web, names(a, "a.example"))
	half.Send("POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf")
	slow := &paused{Conn: dialRaw(t, web), half: make(chan bool), on: make(chan bool)} // and one that has said half a hello
	late, done := tls.Client(slow, names(a, "a.example")), make(chan error, 1)
	go func() { done <- late.Handshake() }()
	<-slow.half
	d.HotRestart()
	close(slow.on)
	if err := <-done; err != nil {
		t.Errorf("the handshake that had begun: %v", err)
	} else {
		wantStatus(t, harness.Wrap(t, late).Do("GET", "/", "a"), 200)
	}
	echoes(t, tunnel, "after")
	half.Send("half")
	r := half.Reply("POST")
	wantStatus(t, r, 200)
	want(t, r.Body, "halfhalf")
	young, _ := secure(t, web, names(a, "a.example"))
	wantStatus(t, young.Do("GET", "/", "a"), 200)
	if err := tunnel.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	wantNotified(t, "the tunnel", tunnel)
}

// The ends of a tunnel: the half that ends with close_notify ends for the endpoint
// as FIN, the other half goes on; one that merely breaks is a reset.
func TestTLSTunnelEnds(t *testing.T) {
	t.Parallel()
	type end struct {
		data string
		err  error
	}
	ends := make(chan end, 1)
	backend := tcpServer(t, func(c *net.TCPConn) {
		b, err := io.ReadAll(c)
		ends <- end{string(b), err}
		_, _ = io.WriteString(c, "the answer")
	})
	s := "[listener.web]\naddress = %q\nprotocol = \"tcp\"\ncluster = \"c\"\n[listener.web.tls]\ncertificates = [{ cert = \"self-signed\" }]\n[cluster.c]\n%s\n"
	addr := harness.Addr(t)
	d := harness.Start(t, fmt.Sprintf(s, addr, endpoints(backend)))
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := strictly(t, addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: v})
		_, _ = io.WriteString(c, "the question")
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if e := <-ends; e.err != nil || e.data != "the question" {
			t.Errorf("%#x: the endpoint gets %q, %v", v, e.data, e.err)
		}
		if b, err := io.ReadAll(c); err != nil || string(b) != "the answer" {
			t.Errorf("%#x: the client gets %q, %v", v, b, err)
		}
		_ = c.Close()
		waitEnd(d, "finished")
		c = strictly(t, addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: v})
		_, _ = io.WriteString(c, "a part")
		if err := c.NetConn().(strict).Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if e := <-ends; !errors.Is(e.err, syscall.ECONNRESET) {
			t.Errorf("%#x: what was cut ends as %q, %v", v, e.data, e.err)
		}
		_ = c.Close()
	}
}

// sClient is openssl s_client, spoken to line by line.
type sClient struct {
	in   io.Writer
	out  *bufio.Reader
	seen strings.Builder
	late atomic.Bool // it was ended because it took too long
}

func newSClient(t *testing.T, addr string, args ...string) *sClient {
	t.Helper()
	harness.Need(t, "openssl")
	cmd := exec.Command("openssl", append([]string{"s_client", "-connect", addr}, args...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		_ = w.Close()
		close(ended)
	}()
	c := &sClient{in: in, out: bufio.NewReader(r)}
	timer := time.AfterFunc(patience, func() {
		c.late.Store(true)
		_ = cmd.Process.Kill()
	})
	t.Cleanup(func() {
		timer.Stop()
		_ = cmd.Process.Kill()
		go func() { _, _ = io.Copy(io.Discard, r) }()
		<-ended
	})
	return c
}

func (c *sClient) send(s string) { _, _ = io.WriteString(c.in, s) }

// until reads on until the output has a text since the last such; false: the end.
func (c *sClient) until(text string) bool {
	for {
		b, err := c.out.ReadByte()
		if err != nil {
			return false
		}
		c.seen.WriteByte(b)
		if strings.HasSuffix(c.seen.String(), text) {
			return true
		}
	}
}

// A few key updates are what TLS is made for: the stream goes on in both directions
// under the new keys. Very many are a flood.
func TestTLSKeyUpdates(t *testing.T) {
	t.Parallel()
	s := &site{tables: "[listener.web.tls]\ncertificates = [{ cert = \"self-signed\" }]\n", endpoints: []string{harness.NewEcho(t, "a").Addr}}
	serve(t, s)
	client := func() *sClient {
		c := newSClient(t, s.addr, "-tls1_3")
		if !c.until("Verify return code") {
			t.Fatalf("no handshake:\n%s", c.seen.String())
		}
		return c
	}
	update := func(c *sClient, command string) bool {
		c.send(command + "\n")
		return c.until("KEYUPDATE")
	}
	request := func(c *sClient, i int) bool {
		c.send(fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i))
		return c.until(fmt.Sprintf("GET /%d HTTP/1.1", i))
	}
	c, n := client(), 0
	for ; n < 200 && update(c, "K") && request(c, n); n++ { // K asks for the other side's as well, k does not
		if n < 20 && !update(c, "k") {
			break
		}
	}
	if n < 20 || n == 200 || c.late.Load() {
		t.Errorf("%d key updates between requests are taken:\n%s", n, c.seen.String())
	}
	c, n = client(), 0
	for n < 200 && update(c, "K") {
		n++
	}
	if n < 5 || n == 200 || c.late.Load() {
		t.Errorf("%d key updates in a row are taken", n)
	}
	good, _ := secure(t, s.addr, &tls.Config{InsecureSkipVerify: true})
	wantStatus(t, good.Do("GET", "/", "a"), 200)
}
