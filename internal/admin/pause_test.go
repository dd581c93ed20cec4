package admin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"belay/internal/admin/adminapi"
)

// TestPausePingPong moves the sockets between two processes all the time while
// clients ask. Every request is answered, and by the process whose turn it is if
// it came within that.
func TestPausePingPong(t *testing.T) {
	p := newPair(t)
	p.next.Pause()
	done := make(chan struct{})
	var clients sync.WaitGroup
	answered := make(chan struct{}, 1)
	poll := func(ask func() error) {
		clients.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := ask(); err != nil {
					t.Error(err)
					return
				}
				select {
				case answered <- struct{}{}:
				default:
				}
			}
		})
	}
	ctx := context.Background()
	keeping := adminapi.NewClient(p.path)
	defer keeping.Close()
	poll(func() error { _, err := keeping.Status(ctx); return err })
	poll(func() error {
		c := adminapi.NewClient(p.path)
		defer c.Close()
		_, err := c.Clusters(ctx, adminapi.Query{})
		return err
	})
	scraper := &http.Client{Transport: &http.Transport{}}
	defer scraper.CloseIdleConnections()
	poll(func() error { return scrape(scraper, "http://"+p.metrics+"/metrics") })
	turns := []struct {
		name      string
		idle, own *Server
	}{{"old", p.next, p.old}, {"next", p.old, p.next}}
	for i := range 200 {
		turn := turns[i%2]
		turn.own.Resume() // both accept for a moment, as after a commit
		turn.idle.Pause()
		if got := who(t, p.path); got != turn.name {
			t.Fatalf("turn %d: %s answers, want %s", i, got, turn.name)
		}
		<-answered
	}
	close(done)
	clients.Wait()
	if !nonblocking(t, p.old) {
		t.Error("a socket blocks now")
	}
}

func scrape(c *http.Client, url string) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// TestPausedConnectionsWait: nobody accepts, and nobody is turned away.
func TestPausedConnectionsWait(t *testing.T) {
	p := newPair(t)
	p.old.Pause()
	p.next.Pause()
	got := make(chan string)
	for range 3 {
		go func() { got <- who(t, p.path) }()
	}
	select {
	case v := <-got:
		t.Fatalf("%s answers while both are paused", v)
	default:
	}
	p.next.Resume()
	for range 3 {
		if v := <-got; v != "next" {
			t.Errorf("%s answers", v)
		}
	}
}

func TestPauseLetsRepliesEndAndClosesIdle(t *testing.T) {
	src := newSource()
	src.entered, src.release = make(chan struct{}), make(chan struct{})
	s := newServer(t, src)
	path := filepath.Join(t.TempDir(), "s")
	if err := s.ServeUnix(path); err != nil {
		t.Fatal(err)
	}
	idle, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if _, err := idle.Write([]byte("GET /ready HTTP/1.1\r\nHost: belayd\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	var b [1024]byte
	if n, err := idle.Read(b[:]); err != nil || !strings.HasPrefix(string(b[:n]), "HTTP/1.1 200") {
		t.Fatalf("%q, %v", b[:n], err)
	}
	asked := make(chan *http.Response, 1)
	c := httpClient(t, path)
	go func() {
		resp, err := c.Get("http://belayd/status")
		if err != nil {
			t.Error(err)
		}
		asked <- resp
	}()
	<-src.entered
	s.Pause()
	idle.SetReadDeadline(time.Now().Add(30 * time.Second))
	if n, err := idle.Read(b[:]); err != io.EOF {
		t.Errorf("idle connection: %q, %v", b[:n], err)
	}
	close(src.release)
	resp := <-asked
	if resp == nil {
		t.Fatal("the request under way was not answered")
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || !resp.Close {
		t.Errorf("%+v", resp)
	}
	src.entered = nil
	s.Resume()
	if !answers(t, path) {
		t.Error("does not answer after Resume")
	}
}

func TestPausedServerShutsDown(t *testing.T) {
	for _, end := range []func(*Server) error{
		func(s *Server) error { return s.Shutdown(context.Background()) },
		(*Server).Release,
	} {
		s := newVersion(t, "old")
		path := filepath.Join(t.TempDir(), "s")
		if err := s.ServeUnix(path); err != nil {
			t.Fatal(err)
		}
		s.Pause()
		s.Pause()
		if err := end(s); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v", err)
		}
		s.Resume()
		s.Pause()
		if err := s.ServeUnix(path); !errors.Is(err, errClosed) {
			t.Errorf("after the end: %v", err)
		}
	}
}

// TestPauseBeforeServing: what comes after Pause is paused, too.
func TestPauseBeforeServing(t *testing.T) {
	s := newVersion(t, "old")
	path := filepath.Join(t.TempDir(), "s")
	s.Pause()
	if err := s.ServeUnix(path); err != nil {
		t.Fatal(err)
	}
	got := make(chan string)
	go func() { got <- who(t, path) }()
	select {
	case v := <-got:
		t.Fatal(v)
	default:
	}
	s.Resume()
	if v := <-got; v != "old" {
		t.Error(v)
	}
}
