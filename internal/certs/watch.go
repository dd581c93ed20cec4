package certs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Watcher calls when files change, however that is done: written, renamed over,
// removed and made again, or reached through a link that now leads elsewhere, at
// any place of the path.
//
// It watches directories, not files: inotify follows inodes, and a replaced file
// is another inode. Of a path it watches every name that was looked up to reach
// the file. What inotify cannot see (network file systems, a directory that may
// not be read, a limit reached) a slow look at every file finds.
type Watcher struct {
	settle, poll time.Duration
	fs           *fsnotify.Watcher // nil: there is none to be had, poll only

	mu    sync.Mutex
	files map[*watched]struct{}
	names map[hop][]*watched // whom an event under that name concerns
	dirs  map[string]directory
	fresh map[string]struct{} // directories that need no second look in this round
	wake  chan struct{}
}

// watched is one set of files with one call.
type watched struct {
	paths   []string
	changed func()
	hops    []hop
	prints  []print
	due     time.Time // when to call; zero: nothing happened
	latest  time.Time // due moves no further than this
}

type directory struct {
	users int
	info  os.FileInfo // which directory it was; nil: it could not be watched
}

// Defaults of the watcher.
const (
	DefaultSettle = 100 * time.Millisecond
	DefaultPoll   = time.Minute
)

// newWatcher makes a watcher that waits until files are quiet for settle, and
// looks at all of them each poll.
func newWatcher(settle, poll time.Duration) *Watcher {
	w := &Watcher{
		settle: settle, poll: poll,
		files: map[*watched]struct{}{}, names: map[hop][]*watched{}, dirs: map[string]directory{}, fresh: map[string]struct{}{}, wake: make(chan struct{}, 1),
	}
	w.fs, _ = fsnotify.NewBufferedWatcher(256) // an error is a limit of inotify: polling remains
	return w
}

// watch has changed called after any of the files changed, and once if they are
// not what seen says.
func (w *Watcher) watch(ctx context.Context, paths []string, seen []print, changed func()) {
	e := &watched{paths: paths, changed: changed, prints: seen}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files[e] = struct{}{}
	w.follow(e)
	if now := fingerprint(paths); !slices.EqualFunc(now, seen, print.equal) {
		e.prints = now
		w.touch(e, time.Now())
	}
	context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.files, e)
		w.unfollow(e, nil)
	})
}

// follow registers the names on the way to e's files as they are now. The
// caller holds mu.
func (w *Watcher) follow(e *watched) {
	var hops []hop
	for _, path := range e.paths {
		for _, h := range trace(path) {
			if !slices.Contains(hops, h) {
				hops = append(hops, h)
			}
		}
	}
	for _, h := range hops {
		if slices.Contains(e.hops, h) {
			w.check(h.dir)
			continue
		}
		w.names[h] = append(w.names[h], e)
		d := w.dirs[h.dir]
		d.users++
		w.dirs[h.dir] = d
		w.check(h.dir)
	}
	w.unfollow(e, hops)
	e.hops = hops
}

// unfollow takes back what follow registered, but what is to be kept. The caller
// holds mu.
func (w *Watcher) unfollow(e *watched, keep []hop) {
	for _, h := range e.hops {
		if slices.Contains(keep, h) {
			continue
		}
		list := w.names[h]
		if i := slices.Index(list, e); i >= 0 {
			list = slices.Delete(list, i, i+1)
		}
		if w.names[h] = list; len(list) == 0 {
			delete(w.names, h)
		}
		w.leave(h.dir)
	}
}

// check watches a directory, anew if its name means another one by now.
func (w *Watcher) check(dir string) {
	if _, done := w.fresh[dir]; done || w.fs == nil {
		return
	}
	w.fresh[dir] = struct{}{}
	d := w.dirs[dir]
	info, err := os.Stat(dir)
	if err != nil || d.info != nil && os.SameFile(d.info, info) {
		return
	}
	if d.info != nil {
		_ = w.fs.Remove(dir) // it may be gone already
	}
	if d.info = info; w.fs.Add(dir) != nil {
		d.info = nil // polling remains
	}
	w.dirs[dir] = d
}

func (w *Watcher) leave(dir string) {
	d := w.dirs[dir]
	if d.users--; d.users > 0 {
		w.dirs[dir] = d
		return
	}
	delete(w.dirs, dir)
	delete(w.fresh, dir)
	if w.fs != nil && d.info != nil {
		_ = w.fs.Remove(dir) // it may be gone already
	}
}

// touch makes e due once it is quiet. The caller holds mu.
func (w *Watcher) touch(e *watched, now time.Time) {
	if e.due.IsZero() {
		e.latest = now.Add(10 * w.settle)
	}
	if e.due = now.Add(w.settle); e.due.After(e.latest) {
		e.due = e.latest
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run serves events until ctx is done.
func (w *Watcher) run(ctx context.Context) {
	var events chan fsnotify.Event
	var failures chan error
	if w.fs != nil {
		defer w.fs.Close()
		events, failures = w.fs.Events, w.fs.Errors
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	poll := time.NewTicker(w.poll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			w.event(e)
		case err := <-failures:
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				w.look()
			}
		case <-poll.C:
			w.look()
		case <-w.wake:
		case <-timer.C:
		}
		if next := w.fire(time.Now()); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

func (w *Watcher) event(e fsnotify.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for _, e := range w.names[hop{filepath.Dir(e.Name), filepath.Base(e.Name)}] {
		w.touch(e, now)
	}
}

// look compares every file with what it was.
func (w *Watcher) look() {
	w.mu.Lock()
	all := make([]*watched, 0, len(w.files))
	for e := range w.files {
		all = append(all, e)
	}
	w.mu.Unlock()
	for _, e := range all {
		now := fingerprint(e.paths)
		w.mu.Lock()
		if !slices.EqualFunc(now, e.prints, print.equal) {
			e.prints = now
			w.touch(e, time.Now())
		}
		w.mu.Unlock()
	}
}

// fire calls for what is due, and says when to come back; zero: no need to.
func (w *Watcher) fire(now time.Time) (next time.Time) {
	var calls []func()
	w.mu.Lock()
	clear(w.fresh)
	for e := range w.files {
		switch {
		case e.due.IsZero():
		case e.due.After(now):
			if next.IsZero() || e.due.Before(next) {
				next = e.due
			}
		default:
			e.due = time.Time{}
			// First the names, then the prints: a change in between is an event.
			w.follow(e)
			e.prints = fingerprint(e.paths)
			calls = append(calls, e.changed)
		}
	}
	w.mu.Unlock()
	for _, call := range calls {
		call()
	}
	return next
}
