package httpproxy

import (
	"bytes"

	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/header"
	"belay/internal/persistence"
)

// keyPart is a part of a request that tables and hashes go by.
type keyPart struct {
	kind     keyKind
	name     string
	handle   header.Handle // of a header's name, if it is registered
	terminal bool

	mint   bool // of a cookie: made if the request has none
	ttl    uint32
	writer *persistence.Writer
}

type keyKind uint8

const (
	keyHeader keyKind = iota
	keyCookie
	keyQuery
	keySource
	keySNI
)

func newKeyParts(list []config.HashOn) []keyPart {
	parts := make([]keyPart, 0, len(list))
	for _, h := range list {
		k := keyPart{terminal: h.Terminal, mint: h.Mint, ttl: seconds(h.TTL)}
		switch {
		case h.Header != "":
			k.kind, k.name, k.handle = keyHeader, h.Header, header.Lookup([]byte(h.Header))
		case h.Cookie != "":
			k.kind, k.name = keyCookie, h.Cookie
		case h.Query != "":
			k.kind, k.name = keyQuery, h.Query
		case h.Source:
			k.kind = keySource
		default:
			k.kind = keySNI
		}
		parts = append(parts, k)
	}
	return parts
}

// newHashParts are the parts that a cluster hashes on.
func newHashParts(h *config.Hash) []keyPart {
	parts := newKeyParts(h.On)
	minted := false
	for i, on := range h.On {
		k := &parts[i]
		if k.mint = k.mint && !minted; !k.mint { // one cookie is enough to tell clients apart
			continue
		}
		minted = true
		path := on.Path
		if path == "" {
			path = "/"
		}
		w, err := persistence.NewWriter(&persistence.Cookie{Name: k.name, Path: path, HTTPOnly: true, SameSite: persistence.SameSiteLax})
		if k.mint = err == nil; k.mint { // else the configuration's check has a hole; the cookie is only read
			k.writer = w
		}
	}
	return parts
}

// lookTable asks the table for the first key that the request has. Of several cookies
// of one name the first that the table knows wins, as the first valid one does where
// they carry tokens: a neighbour domain may put one before the application's.
func (s *stream) lookTable(t *tablePin, cl *Cluster, now uint32) (*cluster.Endpoint, persistence.Verdict) {
	k := s.tableKey(t)
	if k == nil {
		return nil, persistence.None
	}
	v, ok := t.table.Lookup(s.pin.key, now)
	if c := &s.w.candidates; !ok && k.kind == keyCookie && c.N > 1 {
		for i := 1; i < c.N && !ok; i++ {
			s.setKey(c.Values[i])
			v, ok = t.table.Lookup(s.pin.key, now)
		}
		if !ok {
			s.setKey(c.Values[0])
		}
	}
	if !ok {
		return nil, persistence.None
	}
	return cl.ByKey(v.Endpoint)
}

// tableKey finds the first key of a table that the request has; nil: it has none.
func (s *stream) tableKey(t *tablePin) *keyPart {
	for i := range t.keys {
		if s.pin.key = persistence.FoldKey(t.keys[i].of(s, s.pin.key[:0])); len(s.pin.key) > 0 {
			return &t.keys[i]
		}
	}
	return nil
}

// setKey makes a value the key that the table is asked for.
func (s *stream) setKey(v []byte) { s.pin.key = persistence.FoldKey(append(s.pin.key[:0], v...)) }

// of is the part of a request, appended to dst; nothing is appended if the request
// does not have it.
func (k *keyPart) of(s *stream, dst []byte) []byte {
	switch k.kind {
	case keyHeader:
		if k.handle != 0 {
			return append(dst, s.req.Header.Get(k.handle)...)
		}
		return append(dst, s.req.Header.GetName(k.name)...)
	case keyCookie:
		c := &s.w.candidates
		c.Reset()
		s.req.Header.Values(header.Cookie, func(line []byte) bool {
			c.Scan(line, k.name, persistence.MaxAppValue)
			return true
		})
		if c.N > 0 {
			return append(dst, c.Values[0]...)
		}
	case keyQuery:
		return append(dst, queryValue(s.req.Query(), k.name)...)
	case keySource:
		return persistence.AppendSource(dst, s.client)
	case keySNI:
		if s.c.secure() {
			return append(dst, s.c.came.tls.ServerName...)
		}
	}
	return dst
}

// queryValue is the value of a parameter as it stands in the query; nil if there is
// none.
func queryValue(query []byte, name string) []byte {
	for len(query) > 0 {
		var pair []byte
		pair, query, _ = bytes.Cut(query, []byte("&"))
		if n, v, ok := bytes.Cut(pair, []byte("=")); ok && string(n) == name {
			return v
		}
	}
	return nil
}
