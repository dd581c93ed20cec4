package tablestore

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"belay/internal/persistence"
)

var (
	errMessage = errors.New("message is cut or damaged")
	errValue   = errors.New("value of an entry is not known")
)

const valueVersion = "1"

// appendValue appends the text that the store has of an entry.
func appendValue(b []byte, v *persistence.Value) []byte {
	return fmt.Appendf(b, "%s %016x %d %d %d", valueVersion, v.Endpoint.ID, v.Endpoint.Generation, v.FirstSeen, v.LastSeen)
}

func parseValue(text string) (v persistence.Value, err error) {
	f := strings.Fields(text)
	if len(f) != 5 || f[0] != valueVersion {
		return v, errValue
	}
	if v.Endpoint.ID, err = strconv.ParseUint(f[1], 16, 64); err != nil {
		return v, errValue
	}
	for i, p := range []*uint32{&v.Endpoint.Generation, &v.FirstSeen, &v.LastSeen} {
		n, err := strconv.ParseUint(f[2+i], 10, 32)
		if err != nil {
			return v, errValue
		}
		*p = uint32(n)
	}
	return v, nil
}

// same reports whether two values are one for the store, which has no counters.
func same(a, b *persistence.Value) bool {
	return a.Endpoint == b.Endpoint && a.FirstSeen == b.FirstSeen && a.LastSeen == b.LastSeen
}

// A message is the origin, a kind, and after a line feed what follows of that kind:
// an entry's key and value, each with its length as a varint, over and over; or a
// clearing as JSON.
const (
	kindEntries = 'e'
	kindCleared = 'c'
	originSize  = 16
)

func header(origin string, kind byte) []byte { return append([]byte(origin), kind, '\n') }

func appendText[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func cutText(s string) (text, rest string, ok bool) {
	n, used := binary.Uvarint([]byte(s[:min(len(s), binary.MaxVarintLen64)]))
	if used <= 0 || n > uint64(len(s)-used) {
		return "", "", false
	}
	return s[used : used+int(n)], s[used+int(n):], true
}

// cutMessage takes a message apart.
func cutMessage(m string) (origin string, kind byte, body string, err error) {
	if len(m) < originSize+2 || m[originSize+1] != '\n' {
		return "", 0, "", errMessage
	}
	return m[:originSize], m[originSize], m[originSize+2:], nil
}

// entries calls yield with each entry of a message's body.
func entries(body string, yield func(key string, v persistence.Value)) error {
	for body != "" {
		key, rest, ok := cutText(body)
		if !ok || key == "" {
			return errMessage
		}
		text, rest, ok := cutText(rest)
		if !ok {
			return errMessage
		}
		v, err := parseValue(text)
		if err != nil {
			return err
		}
		yield(key, v)
		body = rest
	}
	return nil
}

// clearing is an order to drop what a filter chose at a time.
type clearing struct {
	At       uint32                `json:"at"` // seconds since 1970
	Key      []byte                `json:"key,omitempty"`
	Endpoint *persistence.Endpoint `json:"endpoint,omitempty"`
	Any      bool                  `json:"any,omitempty"`
	MinIdle  uint32                `json:"min_idle,omitempty"`
	MaxIdle  uint32                `json:"max_idle,omitempty"`
}

func parseClearing(text string) (*clearing, error) {
	c := new(clearing)
	if err := json.Unmarshal([]byte(text), c); err != nil {
		return nil, errMessage
	}
	return c, nil
}

func (c *clearing) text() []byte {
	data, err := json.Marshal(c)
	if err != nil { // numbers and strings always can be
		panic(err)
	}
	return data
}

// covers reports whether an entry is one of those that were to go. One that was used
// since then is not.
func (c *clearing) covers(key string, v *persistence.Value) bool {
	switch {
	case v.LastSeen > c.At:
		return false
	case len(c.Key) > 0 && string(c.Key) != key:
		return false
	case c.Endpoint != nil && (v.Endpoint.ID != c.Endpoint.ID || !c.Any && v.Endpoint.Generation != c.Endpoint.Generation):
		return false
	}
	idle := c.At - v.LastSeen
	return idle >= c.MinIdle && (c.MaxIdle == 0 || idle <= c.MaxIdle)
}

// filter is the clearing as of now: who came back since then has a session again.
func (c *clearing) filter(now uint32) persistence.Filter {
	since := now - min(now, c.At)
	f := persistence.Filter{Key: c.Key, Endpoint: c.Endpoint, Any: c.Any, MinIdle: c.MinIdle + since, Until: c.At}
	if c.MaxIdle > 0 {
		f.MaxIdle = c.MaxIdle + since
	}
	return f
}

func (c *clearing) same(o *clearing) bool { return slices.Equal(c.text(), o.text()) }
