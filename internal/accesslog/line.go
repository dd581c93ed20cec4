package accesslog

import (
	"net/netip"
	"strconv"
	"time"
)

// line says how values are written. Every field of the table in field.go calls
// one of its methods once, which appends the value; in JSON with key before it,
// or nothing if there is no value.
type line struct {
	json  bool
	key   string // `,"name":"`; a value without quotes takes all but the last byte
	clock clock
}

func (w *line) text(dst []byte, s string) []byte {
	if len(s) == 0 {
		return w.none(dst)
	}
	if !w.json {
		return appendEscaped(dst, s, false)
	}
	return append(appendEscaped(append(dst, w.key...), s, true), '"')
}

func (w *line) bytes(dst, b []byte) []byte {
	if len(b) == 0 {
		return w.none(dst)
	}
	if !w.json {
		return appendEscaped(dst, b, false)
	}
	return append(appendEscaped(append(dst, w.key...), b, true), '"')
}

// safe appends text that has nothing to escape.
func (w *line) safe(dst, b []byte) []byte {
	if !w.json {
		return append(dst, b...)
	}
	return append(append(append(dst, w.key...), b...), '"')
}

// none stands for a value that does not exist.
func (w *line) none(dst []byte) []byte {
	if w.json {
		return dst
	}
	return append(dst, '-')
}

// lead begins a value without quotes.
func (w *line) lead(dst []byte) []byte {
	if w.json {
		return append(dst, w.key[:len(w.key)-1]...)
	}
	return dst
}

func (w *line) int(dst []byte, n int64) []byte { return strconv.AppendInt(w.lead(dst), n, 10) }

func (w *line) bool(dst []byte, v bool) []byte {
	switch {
	case v:
		return append(w.lead(dst), "true"...)
	case w.json:
		return dst
	}
	return append(dst, "false"...)
}

// addr appends an address without its zone, which may be any text that a proxy
// put into a header field.
func (w *line) addr(dst []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return w.none(dst)
	}
	if !w.json {
		return a.WithZone("").AppendTo(dst)
	}
	return append(a.WithZone("").AppendTo(append(dst, w.key...)), '"')
}

// unit is what a time is counted in.
type unit uint8

const (
	seconds unit = iota
	milliseconds
	microseconds
)

// span appends a time given in ns to the microsecond; below 0 there is none.
func (w *line) span(dst []byte, ns int64, u unit) []byte {
	if ns < 0 {
		return w.none(dst)
	}
	dst = w.lead(dst)
	us := ns / 1000
	switch u {
	case seconds:
		dst = append(strconv.AppendInt(dst, us/1_000_000, 10), '.')
		return appendThousandth(appendThousandth(dst, us/1000%1000), us%1000)
	case milliseconds:
		dst = append(strconv.AppendInt(dst, us/1000, 10), '.')
		return appendThousandth(dst, us%1000)
	}
	return strconv.AppendInt(dst, us, 10)
}

// appendThousandth appends n, below 1000, as three digits.
func appendThousandth(dst []byte, n int64) []byte {
	return append(dst, '0'+byte(n/100), '0'+byte(n/10%10), '0'+byte(n%10))
}

// clock keeps the last times as text: within a millisecond, and but for three
// digits within a second, they are those of the line before.
type clock struct {
	ms, second, clfSecond int64
	iso, clf              []byte
}

const isoMillis = "2006-01-02T15:04:05.000Z"

func (c *clock) rfc3339(t time.Time) []byte {
	ms := t.UnixMilli()
	if ms == c.ms && c.iso != nil {
		return c.iso
	}
	second := t.Unix()
	if second != c.second || len(c.iso) != len(isoMillis) {
		c.iso = t.UTC().AppendFormat(c.iso[:0], isoMillis)
	} else {
		c.iso = appendThousandth(c.iso[:len("2006-01-02T15:04:05.")], ms-second*1000)
		c.iso = append(c.iso, 'Z')
	}
	c.ms, c.second = ms, second
	return c.iso
}

func (c *clock) common(t time.Time) []byte {
	second := t.Unix()
	if second != c.clfSecond || c.clf == nil {
		c.clf = t.UTC().AppendFormat(c.clf[:0], "02/Jan/2006:15:04:05 -0700")
		c.clfSecond = second
	}
	return c.clf
}
