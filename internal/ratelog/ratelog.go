// Package ratelog keeps what happens often from filling a log: of each kind it
// lets one line pass in a while, and says how many it held back.
package ratelog

import (
	"sync"
	"time"
)

// Every is how long a kind is held back after a line.
const Every = 10 * time.Second

// Lines remembers when each kind was logged last. Kinds are few: they are never
// forgotten. The zero value is ready; it may be used by any goroutine. It locks, so
// it is for what fails, not for every request.
type Lines[K comparable] struct {
	mu   sync.Mutex
	last map[K]*line
}

type line struct {
	at   int64
	held int
}

// Now reports whether a line of a kind may be written at a time of a monotonic
// clock, in ns, and how many were held back since the last one.
func (l *Lines[K]) Now(kind K, at int64) (held int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.last[kind]
	switch {
	case x == nil:
		if l.last == nil {
			l.last = make(map[K]*line)
		}
		l.last[kind] = &line{at: at}
		return 0, true
	case at-x.at < int64(Every):
		x.held++
		return 0, false
	}
	held, x.held, x.at = x.held, 0, at
	return held, true
}
