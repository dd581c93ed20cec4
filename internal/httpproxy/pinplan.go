package httpproxy

import (
	"fmt"
	"time"

	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/persistence"
	"belay/internal/stats"
)

// Sessions is what session persistence shares over all clusters. The zero Sessions
// is for a configuration without.
type Sessions struct {
	Keys   *persistence.Keyring
	Tables map[string]*persistence.Table // by config.Table.Name
	Skew   time.Duration                 // config.Keys.Skew
}

// pinPlan is the persistence of a cluster on a route, compiled.
type pinPlan struct {
	cfg    *config.Persistence
	keys   *persistence.Keyring
	cookie *tokenPin
	header *tokenPin
	table  *tablePin
	claims *persistence.Table // endpoints that sources were given lately; nil: first_request_window is off
	window uint32             // seconds
	grace  int64              // seconds
	st     *cluster.SessionStats
}

// tokenPin is a mode in which the client carries the token.
type tokenPin struct {
	name    string
	wrap    wrapping
	binding *persistence.Binding
	limits  persistence.Limits
	hide    bool

	// Of a cookie:
	plain, secure               *persistence.Writer
	keep                        bool // over the browser's end
	preserve, postOnly, noCache bool
}

// wrapping says whether the token stands alone or with a value of the application's.
type wrapping uint8

const (
	wrapNone     wrapping = iota
	wrapPrefix            // TOKEN~VALUE
	wrapEnvelope          // TOKEN.BASE64(VALUE)
)

// tablePin is a stick table.
type tablePin struct {
	table *persistence.Table
	keys  []keyPart
	learn *keyPart // nil: what the request brought is stored
	track bool
}

// newPinPlan compiles p for a cluster; nil if there is nothing to do.
func newPinPlan(p *config.Persistence, c *Cluster, s *Sessions) (*pinPlan, error) {
	if p == nil || p.Off {
		return nil, nil
	}
	x := &pinPlan{cfg: p, keys: s.Keys, window: seconds(p.Window), grace: int64(seconds(p.Grace)), st: c.pinStats}
	if p.Cookie != nil {
		k, err := newCookiePin(p.Cookie, c, s)
		if err != nil {
			return nil, err
		}
		x.cookie = k
	}
	if h := p.Header; h != nil {
		x.header = &tokenPin{
			name: h.Name, hide: h.Hide, binding: persistence.NewBinding(c.Config.Name, h.Name, ""),
			limits: persistence.Limits{MaxIdle: seconds(h.MaxIdle), MaxAge: seconds(h.MaxAge), Skew: seconds(s.Skew)},
		}
		if h.Mode == "envelope" {
			x.header.wrap = wrapEnvelope
		}
	}
	if t := p.Table; t != nil {
		x.table = &tablePin{table: s.Tables[t.Name], keys: newKeyParts(t.Key), track: t.Track}
		if x.table.table == nil {
			return nil, fmt.Errorf("no table %q", t.Name)
		}
		if t.Learn != nil {
			x.table.learn = &newKeyParts([]config.HashOn{*t.Learn})[0]
		}
	}
	if (x.cookie != nil || x.header != nil) && x.keys == nil {
		return nil, fmt.Errorf("no keyring")
	}
	if x.window > 0 {
		claims, err := persistence.NewTable(maxClaims, x.window+1)
		if err != nil {
			return nil, err
		}
		x.claims = claims
	}
	return x, nil
}

// addPin compiles the persistence of one of the route's clusters.
func (r *routePlan) addPin(c *Cluster, s *Sessions, reg *stats.Registry) error {
	cfg := c.Config.Persistence
	if r.cfg.Persistence != nil {
		cfg = r.cfg.Persistence
	}
	if cfg != nil && !cfg.Off && c.pinStats == nil {
		c.pinStats = cluster.NewSessionStats(reg, c.Config.Name)
	}
	p, err := newPinPlan(cfg, c, s)
	r.pins = append(r.pins, p)
	r.pinned = r.pinned || p != nil
	return err
}

// maxClaims bounds the sources that first_request_window remembers; the least
// recently seen makes room.
const maxClaims = 10000

func newCookiePin(k *config.CookiePersistence, c *Cluster, s *Sessions) (*tokenPin, error) {
	x := &tokenPin{
		name: k.Name, hide: k.Hide, keep: k.Keep, preserve: k.Preserve, postOnly: k.PostOnly, noCache: k.NoCache,
		binding: persistence.NewBinding(c.Config.Name, k.Name, ""),
		limits:  persistence.Limits{MaxIdle: seconds(k.MaxIdle), MaxAge: seconds(k.MaxAge), Skew: seconds(s.Skew)},
	}
	switch k.Mode {
	case "prefix":
		x.wrap = wrapPrefix
	case "envelope":
		x.wrap = wrapEnvelope
	}
	if x.wrap != wrapNone {
		x.limits.MaxIdle = 0 // only the application can have its cookie sent again
		return x, nil
	}
	same, err := persistence.ParseSameSite(unset(k.SameSite))
	if err != nil {
		return nil, err
	}
	attributes := persistence.Cookie{
		Name: k.Name, Path: k.Path, Domain: k.Domain, SameSite: same, Secure: k.Secure != "never",
		HTTPOnly: k.HTTPOnly, Partitioned: k.Partitioned,
	}
	if x.secure, err = persistence.NewWriter(&attributes); err != nil {
		return nil, err
	}
	x.plain = x.secure
	if k.Secure == "auto" {
		attributes.Secure = false
		x.plain, err = persistence.NewWriter(&attributes)
	}
	return x, err
}

func unset(s string) string {
	if s == "unset" {
		return ""
	}
	return s
}

// seconds rounds a duration up to the second that tokens and tables count in.
func seconds(d time.Duration) uint32 { return uint32((d + time.Second - 1) / time.Second) }
