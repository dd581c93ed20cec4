package certs

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Of the directory of credentials a process after a hot restart has an O_PATH
// descriptor, and no path that leads there. What is in it loads, and is noticed when
// another file is renamed over it, by inotify, and without inotify by the poll.
func TestCredentialsReplacedByDescriptor(t *testing.T) {
	ca := newCA("ca")
	for _, polled := range []bool{false, true} {
		t.Run(fmt.Sprintf("polled %t", polled), func(t *testing.T) {
			a, b := ca.issue(nil, "x"), ca.issue(nil, "x")
			dir := t.TempDir()
			write(t, dir+"/pair", append(a.chain, a.key...))
			fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			moved := dir + ".unreachable"
			rename(t, dir, moved)
			o := Options{Settle: 5 * time.Millisecond, Poll: time.Hour, Files: Files{Credentials: fmt.Sprintf("/proc/self/fd/%d", fd)}}
			if polled {
				o.Poll = 10 * time.Millisecond
			}
			store := NewStore(o)
			newServer(t, store, ServerOptions{Name: "x", Certificates: []Source{&FileSource{Files: store.Files(), Cert: "credential:pair"}}})
			if s := store.Status()[0]; s.State != "active" || s.Serial != infoOf(a.cert).Serial {
				t.Fatalf("%+v", s)
			}
			w := newWatcher(o.Settle, o.Poll)
			if polled {
				w.fs.Close()
				w.fs = nil
			}
			// The watch is there, and has seen the first file, before the second comes.
			changed := make(chan struct{}, 1)
			paths := store.Files().resolveAll([]string{"credential:pair"})
			w.watch(t.Context(), paths, fingerprint(paths), func() {
				select {
				case changed <- struct{}{}:
				default:
				}
			})
			ctx, cancel := context.WithCancel(t.Context())
			var wait sync.WaitGroup
			defer wait.Wait()
			defer cancel()
			wait.Go(func() { w.run(ctx) })
			write(t, moved+"/pair.new", append(b.chain, b.key...))
			rename(t, moved+"/pair.new", moved+"/pair")
			select {
			case <-changed:
			case <-time.After(10 * time.Second):
				t.Fatal("the new file was not noticed")
			}
			data, _, err := store.Files().readAll([]string{"credential:pair"}, 1)
			if err != nil || string(data[0]) != string(append(b.chain, b.key...)) {
				t.Errorf("read %d bytes, %v", len(data), err)
			}
		})
	}
}
