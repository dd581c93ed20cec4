package tcpproxy

import (
	"fmt"
	"time"

	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/persistence"
	"belay/internal/stats"

	"github.com/cespare/xxhash/v2"
)

// pinPlan is the persistence of a cluster as TCP has it: a stick table by what is
// known of a connection before its first byte.
type pinPlan struct {
	cfg    *config.Persistence
	table  *persistence.Table // nil: only the window holds
	keys   []keyPart
	claims *persistence.Table // nil: first_request_window is off
	window uint32
	grace  int64
	st     *cluster.SessionStats
}

// keyPart is a part of a connection that tables and hashes go by.
type keyPart struct {
	kind     keyKind
	terminal bool // the rest is not hashed if the connection has this
}

type keyKind uint8

const (
	keySource keyKind = iota
	keySNI
)

// maxClaims bounds the sources that first_request_window remembers.
const maxClaims = 10000

// Pin compiles what the cluster's persistence and hash mean for TCP. tables are the
// stick tables by name.
func (c *Cluster) Pin(tables map[string]*persistence.Table, r *stats.Registry) error {
	if b := c.Config.Balance; b == "ring_hash" || b == "maglev" {
		c.hash = keyParts(c.Config.Hash.On)
	}
	p := c.Config.Persistence
	if p == nil || p.Table == nil {
		return nil
	}
	x := &pinPlan{cfg: p, keys: keyParts(p.Table.Key), window: seconds(p.Window), grace: int64(seconds(p.Grace)), st: cluster.NewSessionStats(r, c.Config.Name)}
	if len(x.keys) > 0 {
		if x.table = tables[p.Table.Name]; x.table == nil {
			return fmt.Errorf("cluster.%s.persistence.table: no table %q", c.Config.Name, p.Table.Name)
		}
	}
	if x.window > 0 {
		t, err := persistence.NewTable(maxClaims, x.window+1)
		if err != nil {
			return fmt.Errorf("cluster.%s.persistence: %w", c.Config.Name, err)
		}
		x.claims = t
	}
	c.pin = x
	return nil
}

func seconds(d time.Duration) uint32 { return uint32((d + time.Second - 1) / time.Second) }

// keyParts are those that a TCP connection can have.
func keyParts(list []config.HashOn) (parts []keyPart) {
	for _, h := range list {
		switch {
		case h.Source:
			parts = append(parts, keyPart{keySource, h.Terminal})
		case h.SNI:
			parts = append(parts, keyPart{keySNI, h.Terminal})
		}
	}
	return parts
}

// of appends the part of the connection, or nothing.
func (k keyPart) of(c *conn, dst []byte) []byte {
	switch {
	case k.kind == keySource:
		return persistence.AppendSource(dst, c.peer.Addr())
	case c.tls != nil:
		return append(dst, c.tls.ServerName...)
	case c.said != nil:
		return append(dst, c.said.ServerName...)
	}
	return dst
}

// pin is where the session of a connection is.
type pin struct {
	ep    *cluster.Endpoint
	lost  bool
	key   []byte // its memory is used again
	found cluster.Finding
	done  cluster.Outcome
}

// findPin asks the table. It reports false if the policy refuses the connection.
func (c *conn) findPin() bool {
	c.pin = pin{key: c.pin.key[:0]}
	p := c.cl.shared.pin
	if p == nil || p.table == nil {
		return true
	}
	for _, k := range p.keys {
		if c.pin.key = k.of(c, c.pin.key); len(c.pin.key) > 0 {
			break
		}
	}
	if len(c.pin.key) == 0 {
		return true
	}
	v, ok := p.table.Lookup(c.pin.key, c.w.unix())
	if !ok {
		return true
	}
	e, verdict := c.cl.shared.ByKey(v.Endpoint)
	c.pin.ep, c.pin.found = e, cluster.Finding(verdict)
	return e == nil || e.AdmitsPinned() || c.losePin(e.Absent())
}

// losePin acts by the policy on a pinned endpoint that cannot take the connection, or
// did not. It reports whether another may.
func (c *conn) losePin(why cluster.Finding) bool {
	p, x := c.cl.shared.pin, &c.pin
	if x.lost {
		return true
	}
	x.found, x.lost, x.done = why, true, cluster.Moved
	now := int64(c.w.unix())
	switch {
	case p.cfg.Policy == "strict":
		x.done = cluster.Refused
		return false
	case p.cfg.Policy == "detour" && (why == cluster.FoundOverloaded || now-x.ep.Away(now) <= p.grace):
		x.done = cluster.Detoured
	}
	return true
}

// holds reports whether the connection still belongs to its pinned endpoint.
func (c *conn) holds() bool { return c.pin.ep != nil && !c.pin.lost }

// hint is what the balancer must know.
func (c *conn) hint() cluster.Hint {
	h := cluster.Hint{Avoid: c.ep}
	if c.holds() {
		h.Pinned = c.pin.ep
		return h
	}
	if hash := c.cl.shared.hash; len(hash) > 0 {
		var room [256]byte
		var d xxhash.Digest
		d.Reset()
		for _, k := range hash {
			if b := k.of(c, room[:0]); len(b) > 0 {
				d.Write(b)
				d.Write(hashEnd)
				h.Hashed = true
				if k.terminal {
					break
				}
			}
		}
		h.Hash = d.Sum64()
	}
	return h
}

// hashEnd parts two values, neither of which can have it.
var hashEnd = []byte{0}

// claim lets connections of one source that come at the same time share a choice.
func (c *conn) claim(e *cluster.Endpoint) *cluster.Endpoint {
	p := c.cl.shared.pin
	if p == nil || p.claims == nil || c.pin.ep != nil || c.tries > 0 || !c.peer.IsValid() {
		return e
	}
	var room [20]byte
	k, ok := p.claims.Claim(persistence.AppendSource(room[:0], c.peer.Addr()), e.Key, c.w.unix(), p.window)
	if !ok {
		return e
	}
	if x, _ := c.cl.shared.ByKey(k); x != nil && x.AdmitsPinned() {
		return x
	}
	return e
}

// unclaim forgets the choice of a source, since it could not be reached.
func (c *conn) unclaim() {
	p := c.cl.shared.pin
	if p == nil || p.claims == nil || c.pin.ep != nil || !c.peer.IsValid() {
		return
	}
	var room [20]byte
	key := persistence.AppendSource(room[:0], c.peer.Addr())
	if v, ok := p.claims.Peek(key, c.w.unix()); ok && v.Endpoint == c.ep.Key {
		p.claims.Delete(key)
	}
}

// pinned notes in the table where the session is: the endpoint has taken the
// connection.
func (c *conn) pinned() {
	p, x := c.cl.shared.pin, &c.pin
	if p == nil {
		return
	}
	c.ep.Home()
	switch {
	case x.ep == c.ep:
		x.done = cluster.Kept
		return
	case x.done == cluster.Detoured || len(x.key) == 0:
		return
	case x.ep != nil && !p.cfg.Table.Track:
		return
	case x.ep != nil:
		x.done = cluster.Moved
	default:
		x.done = cluster.Minted
	}
	p.table.Store(x.key, c.ep.Key, c.w.unix())
}

// unix is the wall clock in seconds, as tables have it: read from the system, for it
// may be set while belay runs.
func (w *Worker) unix() uint32 {
	if now := w.loop.Now(); now-w.clockAt >= int64(clockStep) || w.clock == 0 {
		w.clock, w.clockAt = uint32(time.Now().Unix()), now
	}
	return w.clock
}

const clockStep = 50 * time.Millisecond
