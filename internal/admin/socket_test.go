package admin

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"belay/internal/admin/adminapi"
)

// stale leaves a socket file that nobody listens on.
func stale(t *testing.T, path string) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
}

func names(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range list {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func answers(t *testing.T, path string) bool {
	t.Helper()
	c := adminapi.NewClient(path)
	defer c.Close()
	r, err := c.Ready(t.Context())
	return err == nil && r.Ready
}

func TestServeUnixReplacesStaleSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "admin.sock")
	stale(t, path)
	s := newServer(t, newSource())
	if err := s.ServeUnix(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if !answers(t, path) || names(t, dir) != "admin.sock" {
		t.Errorf("answers %v, directory has %q", answers(t, path), names(t, dir))
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if left := names(t, dir); left != "" {
		t.Errorf("left behind: %q", left)
	}
}

// TestServeUnixAfterADeadStarter: it died while it replaced a stale socket.
func TestServeUnixAfterADeadStarter(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "admin.sock")
	stale(t, path)
	stale(t, filepath.Join(dir, ".admin.sock.new"))
	if err := newServer(t, newSource()).ServeUnix(path); err != nil {
		t.Fatal(err)
	}
	if !answers(t, path) || names(t, dir) != "admin.sock" {
		t.Errorf("answers %v, directory has %q", answers(t, path), names(t, dir))
	}
}

func TestServeUnixErrors(t *testing.T) {
	dir := t.TempDir()
	live := filepath.Join(dir, "live")
	if err := newServer(t, newSource()).ServeUnix(live); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(dir, strings.Repeat("x", 108-len(dir)))
	for _, tt := range []struct {
		name, path, want string
		is               error
	}{
		{"somebody listens", live, "listen on " + live + ": another process listens there: address already in use", syscall.EADDRINUSE},
		{"another kind of file", file, "listen on " + file + ": there is a file that is not a socket", nil},
		{"a directory", dir, "listen on " + dir + ": there is a file that is not a socket", nil},
		{"no directory", dir + "/none/s", "listen on " + dir + "/none/s: no such file or directory", fs.ErrNotExist},
		{"too long", long, "listen on " + long + ": the path is 109 bytes long; the admin socket takes ", nil},
	} {
		err := newServer(t, newSource()).ServeUnix(tt.path)
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
		if tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: not %v", tt.name, tt.is)
		}
	}
	if data, _ := os.ReadFile(file); string(data) != "precious" || !answers(t, live) || names(t, dir) != "file live" {
		t.Errorf("harm done: %q, directory has %q", data, names(t, dir))
	}
}

// TestServeUnixIsNeverOpen watches the path while sockets appear there: the first
// sight of each must show mode 0600 already.
func TestServeUnixIsNeverOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	done := make(chan struct{})
	var seen, open atomic.Int64
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if info, err := os.Lstat(path); err == nil {
				seen.Add(1)
				if info.Mode().Perm() != 0o600 {
					open.Add(1)
				}
			}
		}
	})
	for i := 0; i < 200 || seen.Load() == 0; i++ {
		ln, file, err := listenUnix(path)
		if err != nil {
			t.Fatal(err)
		}
		ln.Close() // leaves the file, for the next to replace
		if i%2 == 0 {
			if err := file.remove(); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(done)
	watching.Wait()
	if open.Load() > 0 {
		t.Errorf("%d of %d sights of another mode", open.Load(), seen.Load())
	}
}

// TestServeUnixRace starts many at one path: one gets it, the others are told.
func TestServeUnixRace(t *testing.T) {
	for round := range 20 {
		dir := t.TempDir()
		path := filepath.Join(dir, "s")
		if round%2 == 0 {
			stale(t, path)
		}
		const starters = 8
		servers := make([]*Server, starters)
		errs := make([]error, starters)
		var all sync.WaitGroup
		for i := range starters {
			servers[i] = newServer(t, newSource())
			all.Go(func() { errs[i] = servers[i].ServeUnix(path) })
		}
		all.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else if !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("%v", err)
			}
		}
		if won != 1 || !answers(t, path) || names(t, dir) != "s" {
			t.Fatalf("%d got the socket; directory has %q", won, names(t, dir))
		}
	}
}

func TestShutdownLeavesTheSocketOfAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	old, next := newServer(t, newSource()), newServer(t, newSource())
	if err := old.ServeUnix(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil { // somebody cleans up too much
		t.Fatal(err)
	}
	if err := next.ServeUnix(path); err != nil {
		t.Fatal(err)
	}
	if err := old.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if !answers(t, path) {
		t.Error("the other one's socket is gone")
	}
	os.Remove(path)
	if err := next.Shutdown(t.Context()); err != nil {
		t.Errorf("the file was gone before: %v", err)
	}
}

// TestShutdownWhileAnotherStarts: the socket that is there in the end answers.
func TestShutdownWhileAnotherStarts(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	now := newServer(t, newSource())
	if err := now.ServeUnix(path); err != nil {
		t.Fatal(err)
	}
	for round := range 100 {
		next := newServer(t, newSource())
		var starting sync.WaitGroup
		starting.Go(func() {
			for {
				err := next.ServeUnix(path)
				if err == nil {
					return
				}
				if !errors.Is(err, syscall.EADDRINUSE) {
					t.Error(err)
					return
				}
			}
		})
		if err := now.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		starting.Wait()
		if !answers(t, path) {
			t.Fatalf("round %d: directory has %q", round, names(t, dir))
		}
		now = next
	}
}

func TestServeListenerLeavesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, newSource())
	if err := s.ServeListener(ln); err != nil {
		t.Fatal(err)
	}
	if !answers(t, path) {
		t.Error("does not answer")
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
	again, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ServeListener(again); !errors.Is(err, errClosed) {
		t.Errorf("after Shutdown: %v", err)
	}
	if _, err := net.Dial("tcp", again.Addr().String()); err == nil {
		t.Error("the refused listener is still open")
	}
}

func TestShutdownWaitsForReplies(t *testing.T) {
	for _, inTime := range []bool{true, false} {
		src := newSource()
		src.entered, src.release = make(chan struct{}), make(chan struct{})
		path := filepath.Join(t.TempDir(), "s")
		s := newServer(t, src)
		if err := s.ServeUnix(path); err != nil {
			t.Fatal(err)
		}
		asked := make(chan error, 1)
		go func() {
			c := adminapi.NewClient(path)
			defer c.Close()
			_, err := c.Status(context.Background())
			asked <- err
		}()
		<-src.entered
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan error, 1)
		go func() { stopped <- s.Shutdown(ctx) }()
		if inTime {
			close(src.release)
			if err := <-asked; err != nil {
				t.Errorf("cut: %v", err)
			}
			if err := <-stopped; err != nil {
				t.Error(err)
			}
		} else {
			cancel()
			if err := <-stopped; !errors.Is(err, context.Canceled) {
				t.Errorf("out of time: %v", err)
			}
			if err := <-asked; err == nil {
				t.Error("answered after the end")
			}
			close(src.release)
		}
		cancel()
	}
}

func TestSlowClientIsCut(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the time limit of a head")
	}
	t.Parallel()
	conn, err := net.Dial("unix", serve(t, newSource()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte("GET /ready HTTP/1.1\r\nHost:"))
	conn.SetReadDeadline(time.Now().Add(2 * headTimeout))
	var b [512]byte
	if n, err := conn.Read(b[:]); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("not cut: %q", b[:n])
	}
}
