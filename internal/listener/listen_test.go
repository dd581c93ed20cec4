package listener

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"belay/internal/config"
	"belay/internal/eventloop"
)

// mustBind opens a listener that does not listen.
func mustBind(t testing.TB, c *config.Listener, probe bool) *Listener {
	t.Helper()
	c.Name, c.Backlog = "web", 512
	l, err := Open(c, 2, nil, probe)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// TestBoundAttractsNobody: until Listen, whoever connects is refused, or served by
// who listens on a wildcard.
func TestBoundAttractsNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for _, c := range []config.Listener{{Address: free()}, {Unix: path}, {Unix: "@" + path}} {
		l := mustBind(t, &c, true)
		if err := visit(l); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: visit: %v", l.Address, err)
		}
		mustListen(t, l)
		mustListen(t, l)
		newPorter(t, l).start(t)
		if err := visit(l); err != nil {
			t.Errorf("%s: %v", l.Address, err)
		}
	}
}

// TestBoundBesideWildcard: who binds one address of a wildcard takes nobody from it
// before Listen.
func TestBoundBesideWildcard(t *testing.T) {
	at := free()
	wide := mustOpen(t, &config.Listener{Address: netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())}, 1)
	parent := newPorter(t, wide)
	parent.start(t)
	narrow := mustBind(t, &config.Listener{Address: at}, false)
	for range 20 {
		if err := visit(narrow); err != nil {
			t.Fatal(err)
		}
	}
	parent.do(func() {
		if parent.greetings != 20 {
			t.Errorf("%d of 20 reached the wildcard", parent.greetings)
		}
	})
	mustListen(t, narrow)
	child := newPorter(t, narrow)
	child.start(t)
	if err := visit(narrow); err != nil {
		t.Error(err)
	}
	child.do(func() {
		if child.greetings != 1 {
			t.Errorf("%d greetings where it listens now", child.greetings)
		}
	})
	child.do(child.Stop)
	narrow.Close()
	if err := visit(wide); err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", at.String()); err != nil {
		t.Errorf("the wildcard, after the other has gone: %v", err)
	} else {
		greeted(t, conn)
		conn.Close()
	}
}

// TestListenRefusesTaken: who took the address after Open is noticed by Listen,
// for bound sockets keep nobody out.
func TestListenRefusesTaken(t *testing.T) {
	at := free()
	path := filepath.Join(t.TempDir(), "s")
	for _, tt := range []struct {
		name string
		c    config.Listener
		take func(t *testing.T)
	}{
		{"one of ours", config.Listener{Address: at}, func(t *testing.T) { mustListen(t, mustBind(t, &config.Listener{Address: at}, true)) }},
		{"a stranger", config.Listener{Address: at}, func(t *testing.T) {
			fd, err := eventloop.Listen(eventloop.Address{AP: at}, eventloop.ListenConfig{Backlog: 1})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { eventloop.Close(fd) })
		}},
		{"unix", config.Listener{Unix: path}, func(t *testing.T) { mustListen(t, mustBind(t, &config.Listener{Unix: path}, true)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := mustBind(t, &tt.c, true)
			tt.take(t)
			err := l.Listen()
			if !errors.Is(err, syscall.EADDRINUSE) || err.Error()[:len("listener.web: ")] != "listener.web: " {
				t.Errorf("Listen: %v", err)
			}
		})
	}
}

// TestRemoveFile: only the file that the listener has goes, never one that came to
// its place.
func TestRemoveFile(t *testing.T) {
	exists := func(path string) bool { _, err := os.Lstat(path); return err == nil }
	remove := func(l *Listener) {
		t.Helper()
		if err := l.RemoveFile(); err != nil {
			t.Error(err)
		}
	}
	path := filepath.Join(t.TempDir(), "s")
	l := mustOpen(t, &config.Listener{Unix: path}, 1)
	heir := mustInherit(t, l)
	l.Close()
	if !heir.Bound() && !l.Bound() || heir.Bound() {
		t.Errorf("bound: %t, the heir %t", l.Bound(), heir.Bound())
	}
	remove(heir)
	if exists(path) {
		t.Error("the file of the last one is left")
	}
	remove(heir)
	next := mustOpen(t, &config.Listener{Unix: path}, 1)
	remove(l)
	remove(heir)
	if !exists(path) {
		t.Error("the file of another listener was removed")
	}
	remove(next)
	if exists(path) {
		t.Error("the file is left")
	}
	unit := mustOpen(t, &config.Listener{Unix: path}, 1)
	c := *unit.Config
	c.Systemd = "web"
	h, err := Open(&c, 1, duplicates(t, unit), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	remove(h)
	remove(mustOpen(t, &config.Listener{}, 1))
	if !exists(path) {
		t.Error("the file of a socket unit was removed")
	}
}
