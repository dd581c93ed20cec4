package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// layout is a way in which a pair lies in files and is replaced.
type layout struct {
	name    string
	install func(t *testing.T, dir string, c *issued, n int) // n is 0 the first time
}

func link(t *testing.T, target, path string) {
	t.Helper()
	_ = os.Remove(path + ".new")
	if err := os.Symlink(target, path+".new"); err != nil {
		t.Fatal(err)
	}
	rename(t, path+".new", path)
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

var layouts = []layout{
	{"written in place", func(t *testing.T, dir string, c *issued, _ int) {
		write(t, dir+"/tls/cert.pem", c.chain)
		write(t, dir+"/tls/key.pem", c.key)
	}},
	{"renamed over", func(t *testing.T, dir string, c *issued, _ int) {
		write(t, dir+"/tls/key.tmp", c.key)
		write(t, dir+"/tls/cert.tmp", c.chain)
		rename(t, dir+"/tls/key.tmp", dir+"/tls/key.pem")
		rename(t, dir+"/tls/cert.tmp", dir+"/tls/cert.pem")
	}},
	{"removed and made", func(t *testing.T, dir string, c *issued, _ int) {
		_ = os.RemoveAll(dir + "/tls")
		write(t, dir+"/tls/cert.pem", c.chain)
		write(t, dir+"/tls/key.pem", c.key)
	}},
	{"Kubernetes mount", func(t *testing.T, dir string, c *issued, n int) {
		version := fmt.Sprintf("..2026_%d", n)
		write(t, dir+"/tls/"+version+"/cert.pem", c.chain)
		write(t, dir+"/tls/"+version+"/key.pem", c.key)
		link(t, version, dir+"/tls/..data")
		if n == 0 {
			link(t, "..data/cert.pem", dir+"/tls/cert.pem")
			link(t, "..data/key.pem", dir+"/tls/key.pem")
		} else if err := os.RemoveAll(fmt.Sprintf("%s/tls/..2026_%d", dir, n-1)); err != nil {
			t.Fatal(err)
		}
	}},
	{"directory is a link", func(t *testing.T, dir string, c *issued, n int) {
		version := fmt.Sprintf("%s/v%d", dir, n)
		write(t, version+"/cert.pem", c.chain)
		write(t, version+"/key.pem", c.key)
		link(t, version, dir+"/tls")
	}},
	{"directory renamed", func(t *testing.T, dir string, c *issued, n int) {
		write(t, dir+"/new/cert.pem", c.chain)
		write(t, dir+"/new/key.pem", c.key)
		if n > 0 {
			rename(t, dir+"/tls", fmt.Sprintf("%s/old%d", dir, n))
		}
		rename(t, dir+"/new", dir+"/tls")
	}},
	{"files are links", func(t *testing.T, dir string, c *issued, n int) {
		write(t, fmt.Sprintf("%s/archive/cert%d.pem", dir, n), c.chain)
		write(t, fmt.Sprintf("%s/archive/key%d.pem", dir, n), c.key)
		if err := os.MkdirAll(dir+"/tls", 0o700); err != nil {
			t.Fatal(err)
		}
		link(t, fmt.Sprintf("../archive/cert%d.pem", n), dir+"/tls/cert.pem")
		link(t, fmt.Sprintf("../archive/key%d.pem", n), dir+"/tls/key.pem")
	}},
}

// Certificates are replaced while handshakes go on; none fails, and none sees
// anything but a whole pair.
func TestReloadUnderHandshakes(t *testing.T) {
	ca := newCA("ca")
	var generations []*issued
	for range 4 {
		generations = append(generations, ca.issue(nil, "x.example"))
	}
	for _, l := range layouts {
		for _, polled := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, polled %t", l.name, polled), func(t *testing.T) {
				t.Parallel()
				reloadUnderHandshakes(t, ca, generations, l, polled)
			})
		}
	}
}

func reloadUnderHandshakes(t *testing.T, ca *testCA, generations []*issued, l layout, polled bool) {
	dir := t.TempDir()
	l.install(t, dir, generations[0], 0)
	o := Options{Settle: 5 * time.Millisecond, Poll: time.Hour}
	if polled {
		o.Poll = 10 * time.Millisecond
	}
	store := NewStore(o)
	server := newServer(t, store, ServerOptions{Name: "x", Certificates: []Source{
		&FileSource{Files: store.Files(), Cert: dir + "/tls/cert.pem", Key: dir + "/tls/key.pem"},
	}})
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	if polled { // without inotify
		store.running.Store(true)
		store.watcher = newWatcher(o.Settle, o.Poll)
		store.watcher.fs.Close()
		store.watcher.fs = nil
		wait.Go(func() { store.watcher.run(ctx) })
		wait.Go(func() {
			for ctx.Err() == nil {
				store.turn(ctx)
				time.Sleep(time.Millisecond)
			}
		})
	} else {
		wait.Go(func() { store.Run(ctx) })
	}
	var seen atomic.Pointer[string]
	wait.Go(func() {
		for ctx.Err() == nil {
			cs, _, serverErr, err := handshake(server.Config(), &tls.Config{RootCAs: ca.pool(), ServerName: "x.example"})
			if err != nil || serverErr != nil {
				t.Errorf("handshake: %v, %v", serverErr, err)
				return
			}
			seen.Store(new(cs.PeerCertificates[0].SerialNumber.String()))
		}
	})
	for n, c := range generations {
		if n > 0 {
			l.install(t, dir, c, n)
		}
		want := c.cert.SerialNumber.String()
		eventually(t, fmt.Sprintf("generation %d", n), func() bool { s := seen.Load(); return s != nil && *s == want })
	}
}

// A pair that is bad on reload leaves the last one in place, and says so until
// it is mended.
func TestReloadKeepsLastGood(t *testing.T) {
	ca := newCA("ca")
	good, other := ca.issue(nil, "x.example"), ca.issue(nil, "x.example")
	expired := ca.issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "x.example")
	dir := t.TempDir()
	cert, key := dir+"/cert.pem", dir+"/key.pem"
	write(t, cert, good.chain)
	write(t, key, good.key)
	var mu sync.Mutex
	var events []string
	store := NewStore(Options{Settle: 5 * time.Millisecond, Event: func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, e.Kind.String())
	}})
	server := newServer(t, store, ServerOptions{Name: "x", Certificates: []Source{&FileSource{Files: store.Files(), Cert: cert, Key: key}}})
	go store.Run(t.Context())
	config := server.Config()
	for _, tt := range []struct {
		name       string
		cert, key  []byte
		wantSuffix string
	}{
		{"mismatched key", good.chain, other.key, "key.pem does not match certificate " + cert + " (ECDSA P-256)"},
		{"truncated", good.chain[:100], good.key, "not PEM"},
		{"expired", expired.chain, expired.key, ""},
	} {
		write(t, cert, tt.cert)
		write(t, key, tt.key)
		eventually(t, tt.name, func() bool { return store.Status()[0].State == "last-good" })
		s := store.Status()[0]
		if len(s.Error) < len(tt.wantSuffix) || s.Error[len(s.Error)-len(tt.wantSuffix):] != tt.wantSuffix {
			t.Errorf("%s: %q", tt.name, s.Error)
		}
		if server.Config() != config || s.Serial != infoOf(good.cert).Serial {
			t.Errorf("%s: the last good pair is gone", tt.name)
		}
		write(t, cert, good.chain)
		write(t, key, good.key)
		eventually(t, tt.name+" mended", func() bool { return store.Status()[0].State == "active" })
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"loaded", "failed", "loaded", "failed", "loaded", "failed", "loaded"}; !slices.Equal(events, want) {
		t.Errorf("events %q", events)
	}
}

func TestTrace(t *testing.T) {
	dir := must(filepath.EvalSymlinks(t.TempDir()))
	write(t, dir+"/real/f", nil)
	link(t, "real", dir+"/rel")
	link(t, dir+"/rel/f", dir+"/abs")
	link(t, "loop", dir+"/loop")
	open := must(os.Open(dir + "/real"))
	defer open.Close()
	fd := fmt.Sprintf("/proc/self/fd/%d", descriptorOf(t, open))
	for _, tt := range []struct {
		path string
		want []hop // at the end
	}{
		{dir + "/real/f", []hop{{dir, "real"}, {dir + "/real", "f"}}},
		{dir + "/abs", []hop{{dir, "rel"}, {dir, "real"}, {dir + "/real", "f"}}},
		{dir + "/real/../abs", []hop{{dir, "real"}, {dir + "/real", "f"}}},
		{dir + "/gone/deep/f", []hop{{dir, "gone"}}},
		{fd + "/f", []hop{{fd, "f"}}},
	} {
		got := trace(tt.path)
		if len(got) < len(tt.want) || !slices.Equal(got[len(got)-len(tt.want):], tt.want) {
			t.Errorf("%s: %v", tt.path, got)
		}
	}
	if n := len(trace(dir + "/loop")); n > 100 {
		t.Errorf("a loop has %d hops", n)
	}
}

// descriptorOf finds an open file's number without making it blocking.
func descriptorOf(t *testing.T, f *os.File) (n uintptr) {
	t.Helper()
	raw := must(f.SyscallConn())
	if err := raw.Control(func(fd uintptr) { n = fd }); err != nil {
		t.Fatal(err)
	}
	return n
}

// Credentials may be reached by a descriptor only, and are watched there too.
func TestCredentialsByDescriptor(t *testing.T) {
	dir := t.TempDir()
	ca := newCA("ca")
	a, b := ca.issue(nil, "x"), ca.issue(nil, "x")
	write(t, dir+"/pair", append(a.chain, a.key...))
	open := must(os.Open(dir))
	defer open.Close()
	store := NewStore(Options{Settle: 5 * time.Millisecond, Poll: time.Hour, Files: Files{Credentials: fmt.Sprintf("/proc/self/fd/%d", descriptorOf(t, open))}})
	newServer(t, store, ServerOptions{Name: "x", Certificates: []Source{&FileSource{Files: store.Files(), Cert: "credential:pair"}}})
	go store.Run(t.Context())
	if s := store.Status()[0]; s.State != "active" || s.Serial != infoOf(a.cert).Serial {
		t.Fatalf("%+v", s)
	}
	time.Sleep(50 * time.Millisecond)
	write(t, dir+"/pair", append(b.chain, b.key...))
	eventually(t, "the new pair", func() bool { return store.Status()[0].Serial == infoOf(b.cert).Serial })
}
