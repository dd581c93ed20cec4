package server

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"belay/internal/config"
	"belay/internal/hotrestart"
)

// directoryFDs counts the descriptors of a directory.
func directoryFDs(t *testing.T, path string) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && to == path {
			n++
		}
	}
	return n
}

// The directory that the service manager names is opened when there is no parent
// to give it; a child that was given none may find that it may not open its own.
func TestOpenCredentials(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/key", []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	child := &hotrestart.Parent{}
	for _, tt := range []struct {
		name, set string
		parent    *hotrestart.Parent
		open      bool
	}{
		{"cold start", dir, nil, true},
		{"cold start without credentials", "", nil, false},
		{"cold start, wrong", dir + "/gone", nil, false},
		{"child whose parent has none", dir, child, true},
		{"child without credentials", "", child, false},
		{"child that may not look", dir + "/gone", child, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("CREDENTIALS_DIRECTORY", tt.set)
			var said bytes.Buffer
			s := &Server{parent: tt.parent, credentials: -1, log: slog.New(slog.NewTextHandler(&said, nil))}
			s.openCredentials()
			if wrong := tt.set != "" && !tt.open && tt.parent == nil; strings.Contains(said.String(), "/gone") != wrong {
				t.Errorf("logged %q", said.String())
			}
			path := s.credentialsPath()
			if tt.open != (path != "") || tt.open != (s.Credentials() >= 0) {
				t.Fatalf("path %q, descriptor %d", path, s.Credentials())
			}
			if data, err := os.ReadFile(filepath.Join(path, "key")); tt.open && string(data) != "s3cret" {
				t.Errorf("read %q, %v", data, err)
			}
			s.closeCredentials()
			if n := directoryFDs(t, dir); n != 0 || s.credentialsPath() != "" {
				t.Errorf("%d descriptors are left, and path %q", n, s.credentialsPath())
			}
		})
	}
}

// What the parent gave is used, and not what the environment names: in the hook
// of a reload that may be nothing, or the credentials of a start to come.
func TestCredentialsOfTheParent(t *testing.T) {
	given, own := t.TempDir(), t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", given)
	s := &Server{credentials: -1}
	s.openCredentials()
	defer s.closeCredentials()
	s.parent = &hotrestart.Parent{}
	t.Setenv("CREDENTIALS_DIRECTORY", own)
	s.openCredentials()
	if to, err := os.Readlink(s.credentialsPath()); to != given {
		t.Errorf("the directory is %s, %v", to, err)
	}
	if n := directoryFDs(t, own); n != 0 {
		t.Errorf("%d descriptors of its own", n)
	}
}

// A start that fails leaves the directory closed, one that works keeps it open
// until its end.
func TestCredentialsAreClosed(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for _, tt := range []struct {
		name, address string
		fails         bool
	}{{"works", "unix:" + dir + "/s", false}, {"fails", busy.Addr().String(), true}} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := create(Options{
				Load: func() (*config.Config, error) {
					return config.Parse("test.toml", fmt.Appendf(nil, "[server]\nworkers = 1\n[access_log]\noutput = \"none\"\n[listener.a]\naddress = %q\n"+
						"[[listener.a.route]]\nrespond = { status = 200 }\n", tt.address))
				},
				Version: "test", Stderr: os.Stderr,
				Log: func(*config.Config, io.Writer, func() uint64) *slog.Logger { return slog.New(slog.DiscardHandler) },
			}, nil)
			if (err != nil) != tt.fails {
				t.Fatalf("error %v", err)
			}
			if err == nil {
				if n := directoryFDs(t, dir); n != 1 {
					t.Errorf("%d descriptors of the directory", n)
				}
				s.end()
			}
			if n := directoryFDs(t, dir); n != 0 {
				t.Errorf("%d descriptors of the directory are left", n)
			}
		})
	}
}
