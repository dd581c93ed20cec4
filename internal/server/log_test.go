package server

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"belay/internal/config"
	"belay/internal/hotrestart"
)

// The log takes the segment's lock where two generations may write the same
// file, and nowhere else.
func TestLogOutput(t *testing.T) {
	n, err := hotrestart.Cold(hotrestart.Options{Directory: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	in, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer pipe.Close()
	for _, tt := range []struct {
		name  string
		out   *os.File
		waits bool
	}{{"file", file, true}, {"pipe", pipe, false}} {
		t.Run(tt.name, func(t *testing.T) {
			o := &logOutput{w: tt.out}
			o.share(n)
			lock := n.Segment().LogLock()
			lock.Lock()
			wrote := make(chan error, 1)
			go func() {
				_, err := o.Write([]byte("line\n"))
				wrote <- err
			}()
			if tt.waits {
				select {
				case <-wrote:
					t.Error("written while another holds the lock")
				case <-time.After(50 * time.Millisecond):
				}
				lock.Unlock()
				err = <-wrote
			} else {
				err = <-wrote
				lock.Unlock()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	if data, err := os.ReadFile(file.Name()); err != nil || string(data) != "line\n" {
		t.Errorf("the file has %q, %v", data, err)
	}
}

// So does the access log, whose file is reopened under it too.
func TestAccessLogLock(t *testing.T) {
	n, err := hotrestart.Cold(hotrestart.Options{Directory: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	cfg := &config.Config{AccessLog: config.AccessLog{Output: filepath.Join(t.TempDir(), "access.log"), Format: "json", QueueSize: 1 << 20, FlushInterval: time.Millisecond}}
	s := newServer(cfg, "test", nil)
	s.node = n
	if err := s.openAccessLog(); err != nil {
		t.Fatal(err)
	}
	lock := n.Segment().AccessLogLock()
	lock.Lock()
	reopened := make(chan error, 1)
	go func() { reopened <- s.access.Reopen() }()
	select {
	case <-reopened:
		t.Error("reopened while another generation holds the lock")
	case <-time.After(50 * time.Millisecond):
	}
	lock.Unlock()
	if err := errors.Join(<-reopened, s.access.Close()); err != nil {
		t.Error(err)
	}
}
