package tablestore

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"belay/internal/persistence"
)

// takeOrders takes what Clear was called with.
func (s *Store) takeOrders() {
	s.mu.Lock()
	orders := s.orders
	s.orders = nil
	s.mu.Unlock()
	for _, c := range orders {
		s.remember(c)
		s.untold = lastOf(append(s.untold, c))
	}
}

// remember notes a clearing; false: it is known.
func (s *Store) remember(c *clearing) bool {
	if slices.ContainsFunc(s.clearings, c.same) {
		return false
	}
	s.clearings = lastOf(append(s.clearings, c))
	maps.DeleteFunc(s.pending, func(key string, v persistence.Value) bool { return c.covers(key, &v) })
	s.forget()
	return true
}

// obey does what another machine's operator ordered.
func (s *Store) obey(c *clearing) {
	if !s.remember(c) {
		return
	}
	f := c.filter(unixNow())
	s.table.Clear(f, unixNow())
	if s.Cleared != nil {
		s.Cleared(persistence.Filter{Key: c.Key, Endpoint: c.Endpoint, Any: c.Any, MinIdle: c.MinIdle, MaxIdle: c.MaxIdle}, c.At)
	}
}

// readCleared does what was ordered while this machine was away.
func (s *Store) readCleared(ctx context.Context) error {
	list, err := s.client.LRange(ctx, s.prefix+"cleared", 0, maxClearings-1).Result()
	if err != nil {
		return err
	}
	for _, text := range slices.Backward(list) { // the latest is the first
		c, err := parseClearing(text)
		if err != nil {
			s.errors.Add(1)
			continue
		}
		s.obey(c)
	}
	return nil
}

// tellCleared passes this machine's clearings on, to who is there and to who comes, and
// then drops what the store has of them.
func (s *Store) tellCleared(ctx context.Context) error {
	for len(s.untold) > 0 {
		c := s.untold[0]
		text := c.text()
		_, err := s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
			list := s.prefix + "cleared"
			p.LPush(ctx, list, text)
			p.LTrim(ctx, list, 0, maxClearings-1)
			if x := s.table.Expire(); x > 0 { // what it is about is over then
				p.PExpire(ctx, list, time.Duration(x)*time.Second)
			}
			p.Publish(ctx, s.prefix+"changes", append(header(s.origin, kindCleared), text...))
			return nil
		})
		if err != nil {
			return err
		}
		if err := s.removeCleared(ctx, c); err != nil {
			return err
		}
		s.untold = s.untold[1:]
	}
	return nil
}

func (s *Store) removeCleared(ctx context.Context, c *clearing) error {
	drop := func(keys []string, values []*persistence.Value) error {
		var list []string
		var covered []*persistence.Value
		for i, v := range values {
			if v != nil && c.covers(keys[i], v) {
				list, covered = append(list, keys[i]), append(covered, v)
			}
		}
		return s.remove(ctx, list, covered)
	}
	if len(c.Key) == 0 {
		return s.each(ctx, drop)
	}
	keys := []string{string(c.Key)}
	values, err := s.read(ctx, keys)
	if err != nil {
		return err
	}
	return drop(keys, values)
}
