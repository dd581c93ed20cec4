package tablestore

import (
	"context"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"belay/internal/persistence"
)

// entryKey is the store's key of an entry.
func (s *Store) entryKey(key string) string { return s.prefix + "k:" + key }

// collect queues what changed in the table since the last time.
func (s *Store) collect() {
	s.takeOrders()
	for done := false; !done; {
		var list []persistence.Record
		list, done = s.export(&s.cursor)
		for i := range list {
			key := string(list[i].Key)
			if !s.isKnown(key, &list[i].Value) {
				s.enqueue(key, list[i].Value)
			}
		}
	}
	s.turn()
}

// export is a piece of the table.
func (s *Store) export(c *persistence.Cursor) ([]persistence.Record, bool) {
	chunk, done := s.table.Export(nil, c, exportSize, unixNow())
	list, err := persistence.Records(chunk)
	if err != nil { // Export made it
		panic(err)
	}
	return list, done
}

// enqueue has an entry written by the next flush.
func (s *Store) enqueue(key string, v persistence.Value) {
	if _, ok := s.pending[key]; !ok && len(s.pending) >= s.limit {
		s.drops.Add(1)
		s.behind = true
		return
	}
	s.pending[key] = v
}

// flush writes and publishes what is queued.
func (s *Store) flush(ctx context.Context) error {
	for len(s.doomed) > 0 {
		batch := make([]string, 0, batchSize)
		values := make([]*persistence.Value, 0, batchSize)
		for key, v := range s.doomed {
			values = append(values, &v)
			if batch = append(batch, key); len(batch) == batchSize {
				break
			}
		}
		if err := s.remove(ctx, batch, values); err != nil {
			return err
		}
		for _, key := range batch {
			delete(s.doomed, key)
		}
	}
	for len(s.pending) > 0 {
		batch := make([]string, 0, batchSize)
		for key := range s.pending {
			if batch = append(batch, key); len(batch) == batchSize {
				break
			}
		}
		if err := s.write(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// write writes some of what is queued. What fails stays queued.
func (s *Store) write(ctx context.Context, batch []string) error {
	now := unixNow()
	message := header(s.origin, kindEntries)
	n := 0
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, key := range batch {
			v := s.pending[key]
			life, over := s.life(&v, now)
			if over {
				continue
			}
			text := appendValue(nil, &v)
			p.Set(ctx, s.entryKey(key), text, life)
			message = appendText(appendText(message, key), text)
			n++
		}
		if n > 0 {
			p.Publish(ctx, s.prefix+"changes", message)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.writes.Add(uint64(n))
	for _, key := range batch {
		s.note(key, s.pending[key])
		delete(s.pending, key)
	}
	return nil
}

// life is how long an entry is still good; 0: for ever.
func (s *Store) life(v *persistence.Value, now uint32) (life time.Duration, over bool) {
	expire := s.table.Expire()
	if expire == 0 {
		return 0, false
	}
	idle := now - min(now, v.LastSeen)
	if idle >= expire {
		return 0, true
	}
	return time.Duration(expire-idle) * time.Second, false
}

// removeScript deletes each key that still has the value that goes with it.
var removeScript = redis.NewScript(`
local n = 0
for i, key in ipairs(KEYS) do
  if redis.call("GET", key) == ARGV[i] then
    n = n + redis.call("DEL", key)
  end
end
return n`)

// remove deletes entries of the store, if they are as they were read: another machine
// may have written a newer one since.
func (s *Store) remove(ctx context.Context, keys []string, values []*persistence.Value) error {
	if len(keys) == 0 {
		return nil
	}
	names := make([]string, len(keys))
	texts := make([]any, len(keys))
	for i, key := range keys {
		names[i], texts[i] = s.entryKey(key), appendValue(nil, values[i])
	}
	return removeScript.Run(ctx, s.client, names, texts...).Err()
}

// push writes what the store does not have as this machine has it.
func (s *Store) push(ctx context.Context, l *line) error {
	s.behind, s.caught = false, time.Now()
	var c persistence.Cursor
	for done := false; !done; {
		var list []persistence.Record
		list, done = s.export(&c)
		for len(list) > 0 {
			part := list[:min(len(list), batchSize)]
			list = list[len(part):]
			if err := s.pushPart(ctx, part); err != nil {
				return err
			}
			s.hearAll(l)
		}
	}
	return nil
}

func (s *Store) pushPart(ctx context.Context, part []persistence.Record) error {
	keys := make([]string, len(part))
	for i := range part {
		keys[i] = string(part[i].Key)
	}
	stored, err := s.read(ctx, keys)
	if err != nil {
		return err
	}
	for i := range part {
		mine := part[i].Value
		v := stored[i]
		if v != nil {
			s.take(keys[i], *v)
		}
		if v == nil || v.Endpoint == mine.Endpoint && v.LastSeen < mine.LastSeen {
			if _, ok := s.pending[keys[i]]; !ok {
				s.pending[keys[i]] = mine
			}
		}
	}
	return s.flush(ctx)
}

// read reads entries; what is not there or cannot be read is nil.
func (s *Store) read(ctx context.Context, keys []string) ([]*persistence.Value, error) {
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = s.entryKey(key)
	}
	texts, err := s.client.MGet(ctx, names...).Result()
	if err != nil {
		return nil, err
	}
	list := make([]*persistence.Value, len(keys))
	for i, x := range texts {
		text, ok := x.(string)
		if !ok {
			continue
		}
		v, err := parseValue(text)
		if err != nil {
			s.errors.Add(1)
			continue
		}
		list[i] = &v
	}
	return list, nil
}

// load takes all that the store has.
func (s *Store) load(ctx context.Context, l *line) error {
	return s.each(ctx, func(keys []string, values []*persistence.Value) error {
		for i, v := range values {
			if v != nil {
				s.take(keys[i], *v)
			}
		}
		s.hearAll(l)
		s.collect()
		return nil
	})
}

// each reads all entries of the store, some at a time.
func (s *Store) each(ctx context.Context, yield func([]string, []*persistence.Value) error) error {
	match := globEscape(s.entryKey("")) + "*"
	for at := uint64(0); ; {
		names, next, err := s.client.Scan(ctx, at, match, batchSize).Result()
		if err != nil {
			return err
		}
		if len(names) > 0 {
			for i := range names {
				names[i] = names[i][len(s.entryKey("")):]
			}
			values, err := s.read(ctx, names)
			if err != nil {
				return err
			}
			if err := yield(names, values); err != nil {
				return err
			}
		}
		if at = next; at == 0 {
			return nil
		}
	}
}

// globEscape makes a text match itself in SCAN.
var globEscape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `^`, `\^`).Replace
