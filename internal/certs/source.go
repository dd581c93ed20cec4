package certs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// ErrNotYet is what a source loads that has nothing yet and will call when it
// has: whoever needs it is warming, and nothing is wrong.
var ErrNotYet = errors.New("not there yet")

// Source is where a certificate and its key come from. Its methods run on
// goroutines of the control plane.
type Source interface {
	// Name tells the source from all others, and says what to look at when it
	// fails: "/etc/tls/a.pem + credential:a.key". Two sources of one name count
	// as one.
	Name() string

	// Load reads what is there now, from one generation of it. An error names
	// the file and what is wrong; ErrNotYet means wait.
	Load() (*Material, error)

	// Watch has changed called, from any goroutine, when Load may return
	// something new, also if that came about since the last Load, which was before.
	// It returns at once, and what it started ends with ctx.
	Watch(ctx context.Context, w *Watcher, changed func())
}

// Material is a certificate as it came, in PEM. The names are for errors.
type Material struct {
	Chain, Key, Staple             []byte
	ChainName, KeyName, StapleName string // StapleName "": no staple is configured
}

// FileSource reads a certificate from files; each may be credential:NAME.
type FileSource struct {
	Files  *Files
	Cert   string
	Key    string // "": the certificate's file holds it too
	Staple string // OCSP response; "": none

	mu   sync.Mutex
	seen []print // what the last Load read
}

// Name names the files.
func (s *FileSource) Name() string {
	name := s.Cert
	for _, more := range []string{s.Key, s.Staple} {
		if more != "" {
			name += " + " + more
		}
	}
	return name
}

func (s *FileSource) paths() []string {
	key := s.Key
	if key == "" {
		key = s.Cert
	}
	specs := []string{s.Cert, key}
	if s.Staple != "" {
		specs = append(specs, s.Staple)
	}
	return specs
}

// Load reads the files.
func (s *FileSource) Load() (*Material, error) {
	specs := s.paths()
	data, seen, err := s.Files.readAll(specs, 2)
	s.mu.Lock()
	s.seen = seen
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	m := &Material{Chain: data[0], Key: data[1], ChainName: specs[0], KeyName: specs[1], StapleName: s.Staple}
	if s.Staple != "" {
		m.Staple = data[2]
	}
	return m, nil
}

// Watch watches the files.
func (s *FileSource) Watch(ctx context.Context, w *Watcher, changed func()) {
	s.mu.Lock()
	seen := s.seen
	s.mu.Unlock()
	w.watch(ctx, s.Files.resolveAll(s.paths()), seen, changed)
}

// Fake is a source for tests: it holds what it is given, and nothing at first.
type Fake struct {
	Label string

	mu       sync.Mutex
	material *Material
	err      error
	changed  []func()
}

// Name is the label.
func (f *Fake) Name() string { return f.Label }

// Load returns what was set last.
func (f *Fake) Load() (*Material, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil && f.material == nil {
		return nil, ErrNotYet
	}
	return f.material, f.err
}

// Watch remembers whom to call, and calls for what was set before.
func (f *Fake) Watch(_ context.Context, _ *Watcher, changed func()) {
	f.mu.Lock()
	f.changed = append(f.changed, changed)
	f.mu.Unlock()
	changed()
}

// Set gives the source a pair in PEM, or an error.
func (f *Fake) Set(chain, key []byte, err error) {
	f.mu.Lock()
	f.material, f.err = &Material{Chain: chain, Key: key, ChainName: f.Label, KeyName: f.Label}, err
	calls := f.changed
	f.mu.Unlock()
	for _, call := range calls {
		call()
	}
}

// SelfSigned makes a development certificate once, when it is first loaded. The
// key exists only in memory.
type SelfSigned struct {
	Names []string // DNS names and addresses; none: localhost and its addresses

	once     sync.Once
	material *Material
	err      error
}

// Name says what it is, and for which names.
func (s *SelfSigned) Name() string {
	if len(s.Names) == 0 {
		return "self-signed"
	}
	return "self-signed (" + strings.Join(s.Names, ", ") + ")"
}

// Load makes the certificate.
func (s *SelfSigned) Load() (*Material, error) {
	s.once.Do(func() {
		names := s.Names
		if len(names) == 0 {
			names = []string{"localhost", "127.0.0.1", "::1"}
		}
		chain, key, err := selfSigned(names, time.Now())
		s.material = &Material{Chain: chain, Key: key, ChainName: "self-signed", KeyName: "self-signed"}
		if err != nil {
			s.err = fmt.Errorf("make a self-signed certificate: %w", err)
		}
	})
	return s.material, s.err
}

// Watch has nothing to watch.
func (s *SelfSigned) Watch(context.Context, *Watcher, func()) {}
