package certs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Kind says what a resource is.
type Kind uint8

// The kinds.
const (
	KindCertificate Kind = iota
	KindCA
	KindCRL
	KindTicketSecret
)

func (k Kind) String() string {
	return [...]string{"certificate", "ca", "crl", "ticket_secret"}[k]
}

// State says whether a resource serves.
//
//	Warming → Active ⇄ LastGood
type State uint8

// The states.
const (
	Warming  State = iota // never yet loaded; what needs it does not serve
	Active                // what is in the files is in use
	LastGood              // what is in the files is bad, what was there before is in use
)

func (s State) String() string {
	return [...]string{"warming", "active", "last-good"}[s]
}

// sum is a hash of a resource's content.
type sum [sha256.Size]byte

// resource is one thing that is loaded from outside and may change there. Its
// last good value stays until there is a better one.
type resource struct {
	kind Kind
	name string
	// load reads; a nil value means the content is still that of last.
	load  func(last sum, current any, now time.Time) (value any, content sum, err error)
	watch func(ctx context.Context, w *Watcher, changed func())

	loading sync.Mutex // one load at a time, held before the store's mu

	// The following are guarded by the store's mu.
	value    any
	content  sum
	state    State
	err      error // why it is not Active
	since    time.Time
	failures int
	mismatch error // the value is fine, but not beside another resource
	users    []user
	warned   time.Time // last word on its expiry
}

// user is what is built from resources.
type user interface {
	label() string
	rebuild(now time.Time) // the store's mu is held
}

func hash(parts ...[]byte) (s sum) {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d\n", len(p))
		h.Write(p)
	}
	h.Sum(s[:0])
	return s
}

func certificateResource(source Source) *resource {
	r := &resource{kind: KindCertificate, name: source.Name(), watch: source.Watch}
	r.load = func(last sum, current any, now time.Time) (any, sum, error) {
		m, err := source.Load()
		if err != nil {
			return nil, sum{}, err
		}
		content := hash(m.Chain, m.Key, m.Staple)
		if content == last {
			return nil, last, nil
		}
		p, err := ParsePair(m)
		if err != nil {
			return nil, sum{}, err
		}
		old, _ := current.(*Pair)
		if old != nil && now.After(p.Info.NotAfter) && now.Before(old.Info.NotAfter) {
			return nil, sum{}, fmt.Errorf("certificate %s expired at %s", m.ChainName, p.Info.NotAfter.UTC().Format(time.RFC3339))
		}
		return p, content, nil
	}
	return r
}

// authorities is the content of a CA file.
type authorities struct {
	certs []*x509.Certificate
	pool  *x509.CertPool
	sum   sum
}

// fileResource is a resource of one file.
func fileResource(kind Kind, files *Files, spec string, parse func(data []byte) (any, error)) *resource {
	r := &resource{kind: kind, name: spec}
	var mu sync.Mutex
	var seen []print
	r.load = func(last sum, _ any, _ time.Time) (any, sum, error) {
		data, prints, err := files.readAll([]string{spec}, 1)
		mu.Lock()
		seen = prints
		mu.Unlock()
		if err != nil {
			return nil, sum{}, fmt.Errorf("%s: %w", kind, err)
		}
		content := hash(data[0])
		if content == last {
			return nil, last, nil
		}
		value, err := parse(data[0])
		return value, content, err
	}
	r.watch = func(ctx context.Context, w *Watcher, changed func()) {
		mu.Lock()
		defer mu.Unlock()
		w.watch(ctx, files.resolveAll([]string{spec}), seen, changed)
	}
	return r
}

func caResource(files *Files, spec string) *resource {
	return fileResource(KindCA, files, spec, func(data []byte) (any, error) {
		list, _, err := parseCertificates(data, spec)
		if err != nil {
			return nil, err
		}
		a := &authorities{certs: list, pool: x509.NewCertPool(), sum: hash(data)}
		for _, c := range list {
			a.pool.AddCert(c)
		}
		return a, nil
	})
}

func crlResource(files *Files, spec string) *resource {
	return fileResource(KindCRL, files, spec, func(data []byte) (any, error) {
		set, err := parseCRLs(data, spec)
		if err != nil {
			return nil, err // a nil *crlSet in an any would not be nil
		}
		return set, nil
	})
}

func secretResource(files *Files, spec string) *resource {
	return fileResource(KindTicketSecret, files, spec, func(data []byte) (any, error) {
		if n := len(bytes.TrimSpace(data)); n < minSecret {
			return nil, fmt.Errorf("ticket_secret %s: %d bytes are too few, at least %d are needed (openssl rand -base64 48)", spec, n, minSecret)
		}
		return bytes.Clone(data), nil
	})
}

// settle puts the outcome of a load into a resource: whether its value changed,
// and whether what is to be told of it did. The store's mu is held.
func (r *resource) settle(value any, content sum, err error, now time.Time) (changed, news bool) {
	before, beforeErr := r.state, r.err
	switch {
	case err == nil && value != nil:
		r.value, r.content, r.state, r.err = value, content, Active, nil
		r.warned = time.Time{}
		changed, news = true, true
	case err == nil:
		r.state, r.err = Active, nil // the file is again what it was
		news = before != Active
	case errors.Is(err, ErrNotYet) && r.value != nil:
		return false, false // a source that has gone silent keeps what it gave
	default:
		r.err = err
		if r.value != nil {
			r.state = LastGood
		}
		news = beforeErr == nil || beforeErr.Error() != err.Error()
	}
	if news && (before != r.state || changed) || r.since.IsZero() {
		r.since = now
	}
	return changed, news
}
