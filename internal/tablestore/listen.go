package tablestore

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"belay/internal/persistence"
)

// line brings what the other machines publish.
type line struct {
	messages chan string
	broken   chan error // gets one
}

// quietTime is how long nothing may come before the store is asked whether it is there.
const quietTime = 5 * time.Second

var errSilent = errors.New("no answer to PING")

// listen passes messages on until the connection fails or ctx ends.
func (l *line) listen(ctx context.Context, ps *redis.PubSub, timeout time.Duration) {
	asked := false
	for {
		wait := quietTime
		if asked {
			wait = timeout
		}
		m, err := ps.ReceiveTimeout(ctx, wait)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() && ctx.Err() == nil {
			err = errSilent
			if !asked {
				err = ps.Ping(ctx)
			}
			asked = true
			if err == nil {
				continue
			}
		}
		if err != nil {
			l.broken <- err
			return
		}
		asked = false
		switch m := m.(type) {
		case *redis.Subscription:
			// The library has made a new connection: what was published between is lost.
			l.broken <- errors.New("the connection was lost")
			return
		case *redis.Message:
			select {
			case l.messages <- m.Payload:
			case <-ctx.Done():
				return
			}
		}
	}
}

// hearAll takes what has come.
func (s *Store) hearAll(l *line) {
	for range cap(l.messages) {
		select {
		case m := <-l.messages:
			s.hear(m)
		default:
			return
		}
	}
}

// hear takes one message.
func (s *Store) hear(m string) {
	origin, kind, body, err := cutMessage(m)
	if err == nil && origin == s.origin {
		return
	}
	if err == nil {
		switch kind {
		case kindEntries:
			err = entries(body, s.take)
		case kindCleared:
			var c *clearing
			if c, err = parseClearing(body); err == nil {
				s.obey(c)
			}
		}
	}
	if err != nil {
		s.errors.Add(1)
	}
}

// take takes an entry of another machine, or that the store has.
func (s *Store) take(key string, v persistence.Value) {
	for _, c := range s.clearings {
		if c.covers(key, &v) { // it was on its way then
			s.doomed[key] = v
			return
		}
	}
	have, changed := s.table.Adopt([]byte(key), v, unixNow())
	switch {
	case changed, same(&have, &v):
		s.note(key, v)
		if p, ok := s.pending[key]; ok && p.LastSeen <= v.LastSeen {
			delete(s.pending, key)
		}
	case have.Endpoint != v.Endpoint:
		// What is here wins, and was perhaps written before: the store has the other.
		s.enqueue(key, have)
	}
}

// note remembers what the store has of a key that was just written or taken, so that it
// is not written again for being new in the table.
func (s *Store) note(key string, v persistence.Value) { s.known[0][key] = v }

func (s *Store) isKnown(key string, v *persistence.Value) bool {
	for _, m := range s.known {
		if k, ok := m[key]; ok && same(&k, v) {
			return true
		}
	}
	return false
}

// forget drops what note remembers.
func (s *Store) forget() {
	s.known[0], s.known[1] = map[string]persistence.Value{}, map[string]persistence.Value{}
	s.turned = time.Now()
}

// turn drops the older half of what note remembers. A change is told by the next
// collect, and a value is as it is for the second of its last use.
func (s *Store) turn() {
	if time.Since(s.turned) > 2*time.Second || len(s.known[0]) > max(s.limit, batchSize) {
		s.known[0], s.known[1] = map[string]persistence.Value{}, s.known[0]
		s.turned = time.Now()
	}
}

func unixNow() uint32 { return uint32(time.Now().Unix()) }
