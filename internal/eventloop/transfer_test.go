package eventloop

import (
	"bytes"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// tcpPair is a connected pair of TCP sockets, closed with the test.
func tcpPair(t testing.TB) (client, server int) {
	t.Helper()
	fd, at := mustListen(t, loopback(0), ListenConfig{Nodelay: true})
	client = mustConnect(t, at)
	server, _ = mustAccept(t, fd)
	return client, server
}

func TestRecvAndPeek(t *testing.T) {
	a, b := tcpPair(t)
	buf := make([]byte, 16)
	check := func(name string, wantData, wantEOF bool, wantErr syscall.Errno) {
		t.Helper()
		if data, eof, errno := Peek(a); data != wantData || eof != wantEOF || errno != wantErr {
			t.Errorf("%s: Peek = %t, %t, %v", name, data, eof, errno)
		}
	}
	check("quiet", false, false, syscall.EAGAIN)
	if n, errno := Recv(a, buf); n != 0 || errno != syscall.EAGAIN {
		t.Errorf("quiet: Recv = %d, %v", n, errno)
	}
	send(t, b, "abc")
	check("data", true, false, 0)
	check("data still there", true, false, 0)
	if n, errno := Recv(a, buf); n != 3 || errno != 0 {
		t.Errorf("data: Recv = %d, %v", n, errno)
	}
	if _, errno := Recv(a, nil); errno != syscall.EINVAL {
		t.Errorf("Recv without a buffer: %v", errno)
	}
	if err := ShutdownWrite(b); err != nil {
		t.Fatal(err)
	}
	check("ended", false, true, 0)
	if n, errno := Recv(a, buf); n != 0 || errno != 0 {
		t.Errorf("ended: Recv = %d, %v", n, errno)
	}
	if _, errno := Recv(-1, buf); errno != syscall.EBADF {
		t.Errorf("no descriptor: Recv: %v", errno)
	}
}

// TestBlockingDescriptor: MSG_DONTWAIT makes even a blocking socket safe.
func TestBlockingDescriptor(t *testing.T) {
	a, _ := pair(t)
	if err := unix.SetNonblock(a, false); err != nil {
		t.Fatal(err)
	}
	if _, errno := Recv(a, make([]byte, 1)); errno != syscall.EAGAIN {
		t.Errorf("Recv: %v, want EAGAIN", errno)
	}
	if err := SetNonblock(a); err != nil {
		t.Fatal(err)
	}
	if fl, _ := unix.FcntlInt(uintptr(a), unix.F_GETFL, 0); fl&unix.O_NONBLOCK == 0 {
		t.Error("SetNonblock did not")
	}
}

func TestReset(t *testing.T) {
	a, b := tcpPair(t)
	if err := SetLinger0(a); err != nil {
		t.Fatal(err)
	}
	c, _ := pair(t)
	if err := unix.Dup3(c, a, unix.O_CLOEXEC); err != nil { // closes a, keeps its number
		t.Fatal(err)
	}
	if _, errno := Recv(b, make([]byte, 1)); errno != syscall.ECONNRESET {
		t.Errorf("Recv: %v, want ECONNRESET", errno)
	}
	if _, errno := Send(b, []byte("x")); errno != syscall.EPIPE {
		t.Errorf("Send: %v, want EPIPE and no signal", errno)
	}
	if _, errno := Sendv(b, []byte("x"), []byte("y")); errno != syscall.EPIPE {
		t.Errorf("Sendv: %v, want EPIPE and no signal", errno)
	}
}

func TestSendv(t *testing.T) {
	for _, tt := range []struct{ name, a, b string }{
		{"both", "head", "body"}, {"first only", "head", ""}, {"second only", "", "body"}, {"nothing", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, y := pair(t)
			want := tt.a + tt.b
			if n, errno := Sendv(x, []byte(tt.a), []byte(tt.b)); n != len(want) || errno != 0 {
				t.Fatalf("Sendv = %d, %v", n, errno)
			}
			buf := make([]byte, 64)
			if n, _ := Recv(y, buf); string(buf[:n]) != want {
				t.Errorf("received %q", buf[:n])
			}
		})
	}
}

// TestSendvUntilFull: a socket takes part of what it is given, then nothing; all
// that it took arrives.
func TestSendvUntilFull(t *testing.T) {
	x, y := tcpPair(t)
	a, b := bytes.Repeat([]byte("a"), 1000), bytes.Repeat([]byte("b"), 1<<20)
	sent, calls := 0, 0
	for {
		n, errno := Sendv(x, a, b)
		if errno == syscall.EAGAIN {
			break
		}
		if errno != 0 {
			t.Fatal(errno)
		}
		sent += n
		calls++
	}
	got := 0
	for buf := make([]byte, 64<<10); got < sent; {
		n, errno := Recv(y, buf)
		if errno != 0 && errno != syscall.EAGAIN {
			t.Fatal(errno)
		}
		got += n
	}
	if calls == 0 || got != sent {
		t.Errorf("%d calls, %d bytes sent, %d received", calls, sent, got)
	}
}

func TestTransferAllocs(t *testing.T) {
	fd, at := mustListen(t, loopback(0), ListenConfig{})
	x, y := tcpPair(t)
	buf := make([]byte, 4096)
	for _, tt := range []struct {
		name string
		want float64
		f    func()
	}{
		{"Send and Recv", 0, func() { Send(x, buf[:100]); Recv(y, buf) }},
		{"Sendv and Recv", 0, func() { Sendv(x, buf[:100], buf[100:200]); Recv(y, buf) }},
		{"Peek", 0, func() { Peek(y) }},
		{"SocketError", 0, func() { SocketError(x) }},
		{"Connect and Accept", 1, func() { // the sockaddr of connect
			c, _, _ := Connect(at)
			s, _, _ := Accept(fd)
			Close(c)
			Close(s)
		}},
	} {
		if n := testing.AllocsPerRun(50, tt.f); n > tt.want {
			t.Errorf("%s: %v allocations, want %v", tt.name, n, tt.want)
		}
	}
}

func BenchmarkSendRecv(b *testing.B) {
	x, y := tcpPair(b)
	msg, buf := make([]byte, 100), make([]byte, 4096)
	for _, bb := range []struct {
		name string
		f    func()
	}{
		{"Send", func() { Send(x, msg) }},
		{"Sendv", func() { Sendv(x, msg[:50], msg[50:]) }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				bb.f()
				Recv(y, buf)
			}
		})
	}
}

func BenchmarkRecvDry(b *testing.B) {
	x, _ := tcpPair(b)
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		Recv(x, buf)
	}
}

func BenchmarkConnectAccept(b *testing.B) {
	fd, at := mustListen(b, loopback(0), ListenConfig{Backlog: 128, Nodelay: true})
	b.ReportAllocs()
	for b.Loop() {
		c, _, err := Connect(at)
		if err != nil {
			b.Fatal(err)
		}
		s, _, _ := Accept(fd)
		SetLinger0(c) // no TIME_WAIT, or the ports run out
		Close(c)
		Close(s)
	}
}
