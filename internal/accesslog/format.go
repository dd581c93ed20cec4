package accesslog

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// field is one piece of a format: a literal, then a value.
type field struct {
	literal string
	value   func(dst []byte, b *Buffer, r *Record) []byte // nil: only the literal
}

// values are the names a format can use.
var values = map[string]func([]byte, *Buffer, *Record) []byte{
	"time": func(d []byte, b *Buffer, r *Record) []byte { return append(d, b.clock.rfc3339(r.Start)...) },
	"time_clf": func(d []byte, b *Buffer, r *Record) []byte {
		return r.Start.UTC().AppendFormat(d, "02/Jan/2006:15:04:05 +0000")
	},
	"client":        func(d []byte, _ *Buffer, r *Record) []byte { return appendAddr(d, r.Client.Addr()) },
	"peer":          func(d []byte, _ *Buffer, r *Record) []byte { return appendPeer(d, r.Peer) },
	"method":        func(d []byte, _ *Buffer, r *Record) []byte { return escaped(d, r.Method) },
	"host":          func(d []byte, _ *Buffer, r *Record) []byte { return escaped(d, r.Host) },
	"path":          func(d []byte, _ *Buffer, r *Record) []byte { return escaped(d, r.Path) },
	"protocol":      func(d []byte, _ *Buffer, r *Record) []byte { return escaped(d, r.Protocol) },
	"user_agent":    func(d []byte, _ *Buffer, r *Record) []byte { return escaped(d, r.UserAgent) },
	"referer":       func(d []byte, _ *Buffer, r *Record) []byte { return escaped(d, r.Referer) },
	"request_id":    func(d []byte, _ *Buffer, r *Record) []byte { return escaped(d, r.RequestID) },
	"forwarded_for": func(d []byte, _ *Buffer, r *Record) []byte { return escaped(d, r.ForwardedFor) },
	"status":        func(d []byte, _ *Buffer, r *Record) []byte { return strconv.AppendInt(d, int64(r.Status), 10) },
	"bytes_in":      func(d []byte, _ *Buffer, r *Record) []byte { return strconv.AppendInt(d, r.BytesIn, 10) },
	"bytes_out":     func(d []byte, _ *Buffer, r *Record) []byte { return strconv.AppendInt(d, r.BytesOut, 10) },
	"attempts":      func(d []byte, _ *Buffer, r *Record) []byte { return strconv.AppendInt(d, int64(r.Attempts), 10) },
	"conn":          func(d []byte, _ *Buffer, r *Record) []byte { return strconv.AppendUint(d, r.ConnID, 10) },
	"duration_ms":   func(d []byte, _ *Buffer, r *Record) []byte { return millis(d, r.Duration) },
	"connect_ms":    func(d []byte, _ *Buffer, r *Record) []byte { return millis(d, r.UpstreamConnect) },
	"first_byte_ms": func(d []byte, _ *Buffer, r *Record) []byte { return millis(d, r.UpstreamFirstByte) },
	"listener":      func(d []byte, _ *Buffer, r *Record) []byte { return word(d, r.Listener) },
	"route":         func(d []byte, _ *Buffer, r *Record) []byte { return word(d, r.Route) },
	"cluster":       func(d []byte, _ *Buffer, r *Record) []byte { return word(d, r.Cluster) },
	"endpoint":      func(d []byte, _ *Buffer, r *Record) []byte { return word(d, r.Endpoint) },
	"reason":        func(d []byte, _ *Buffer, r *Record) []byte { return word(d, r.Reason) },
}

// parse takes a format apart. Errors name the byte, counted from 1.
func parse(format string) ([]field, error) {
	var out []field
	var lit strings.Builder
	for i := 0; i < len(format); {
		if format[i] != '%' {
			if format[i] == '\n' || format[i] == '\r' {
				return nil, fmt.Errorf("format: line break at byte %d", i+1)
			}
			lit.WriteByte(format[i])
			i++
			continue
		}
		rest := format[i:]
		if strings.HasPrefix(rest, "%%") {
			lit.WriteByte('%')
			i += 2
			continue
		}
		end := strings.IndexByte(rest, '}')
		if !strings.HasPrefix(rest, "%{") || end < 0 {
			return nil, fmt.Errorf("format: %% at byte %d begins neither %%{name} nor %%%%", i+1)
		}
		v, ok := values[rest[2:end]]
		if !ok {
			return nil, fmt.Errorf("format: unknown field %q at byte %d; there are %s", rest[2:end], i+1, strings.Join(names(), ", "))
		}
		out = append(out, field{lit.String(), v})
		lit.Reset()
		i += end + 1
	}
	if lit.Len() > 0 {
		out = append(out, field{literal: lit.String()})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("format: empty")
	}
	return out, nil
}

func names() []string {
	var n []string
	for k := range values {
		n = append(n, k)
	}
	slices.Sort(n)
	return n
}

func (b *Buffer) appendText(d []byte, r *Record) []byte {
	for i := range b.log.fields {
		f := &b.log.fields[i]
		d = append(d, f.literal...)
		if f.value != nil {
			d = f.value(d, b, r)
		}
	}
	return append(d, '\n')
}

// appendJSON writes an object; empty text fields are left out, but for reason.
func (b *Buffer) appendJSON(d []byte, r *Record) []byte {
	d = append(append(append(d, `{"time":"`...), b.clock.rfc3339(r.Start)...), `","duration_ms":`...)
	d = millis(d, r.Duration)
	d = append(d, `,"client":"`...)
	d = appendAddr(d, r.Client.Addr())
	d = append(d, `","peer":"`...)
	d = appendPeer(d, r.Peer)
	d = append(d, '"')
	d = member(d, `,"listener":"`, r.Listener)
	d = member(d, `,"route":"`, r.Route)
	d = member(d, `,"cluster":"`, r.Cluster)
	d = member(d, `,"endpoint":"`, r.Endpoint)
	d = member(d, `,"method":"`, r.Method)
	d = member(d, `,"host":"`, r.Host)
	d = member(d, `,"path":"`, r.Path)
	d = member(d, `,"protocol":"`, r.Protocol)
	d = append(d, `,"status":`...)
	d = strconv.AppendInt(d, int64(r.Status), 10)
	d = append(d, `,"bytes_in":`...)
	d = strconv.AppendInt(d, r.BytesIn, 10)
	d = append(d, `,"bytes_out":`...)
	d = strconv.AppendInt(d, r.BytesOut, 10)
	if r.UpstreamConnect >= 0 {
		d = millis(append(d, `,"connect_ms":`...), r.UpstreamConnect)
	}
	if r.UpstreamFirstByte >= 0 {
		d = millis(append(d, `,"first_byte_ms":`...), r.UpstreamFirstByte)
	}
	d = append(d, `,"attempts":`...)
	d = strconv.AppendInt(d, int64(r.Attempts), 10)
	d = append(d, `,"reason":"`...)
	d = appendString(d, r.Reason)
	d = append(d, '"')
	d = member(d, `,"user_agent":"`, r.UserAgent)
	d = member(d, `,"referer":"`, r.Referer)
	d = member(d, `,"request_id":"`, r.RequestID)
	d = member(d, `,"forwarded_for":"`, r.ForwardedFor)
	d = append(d, `,"conn":`...)
	d = strconv.AppendUint(d, r.ConnID, 10)
	return append(d, "}\n"...)
}

func member[T string | []byte](d []byte, key string, v T) []byte {
	if len(v) == 0 {
		return d
	}
	d = append(d, key...)
	d = appendString(d, v)
	return append(d, '"')
}

const hex = "0123456789abcdef"

// appendString escapes for JSON (RFC 8259 7); bytes that are no UTF-8 become the
// replacement character.
func appendString[T string | []byte](d []byte, v T) []byte {
	from := 0
	for i := 0; i < len(v); {
		c := v[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		d = append(d, v[from:i]...)
		switch {
		case c == '"' || c == '\\':
			d = append(d, '\\', c)
			i++
		case c < utf8.RuneSelf:
			d = append(d, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			i++
		default:
			n := runeLen(v[i:])
			if n == 0 {
				d = append(d, "\uFFFD"...)
				n = 1
			} else {
				d = append(d, v[i:i+n]...)
			}
			i += n
		}
		from = i
	}
	return append(d, v[from:]...)
}

// runeLen is the length of the valid UTF-8 sequence at the start of v, or 0.
func runeLen[T string | []byte](v T) int {
	var buf [utf8.UTFMax]byte
	n := copy(buf[:], v[:min(len(v), utf8.UTFMax)])
	if r, size := utf8.DecodeRune(buf[:n]); r != utf8.RuneError || size > 1 {
		return size
	}
	return 0
}

// escaped writes text for a format string: what could end a field or a line, or
// upset a terminal, becomes \xHH.
func escaped(d, v []byte) []byte {
	if len(v) == 0 {
		return append(d, '-')
	}
	for _, c := range v {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			d = append(d, '\\', 'x', hex[c>>4], hex[c&15])
			continue
		}
		d = append(d, c)
	}
	return d
}

func word(d []byte, v string) []byte {
	if v == "" {
		return append(d, '-')
	}
	return append(d, v...)
}

// millis writes ns as milliseconds with three decimals.
func millis(d []byte, ns int64) []byte {
	if ns < 0 {
		return append(d, '-')
	}
	us := ns / 1000
	d = strconv.AppendInt(d, us/1000, 10)
	f := us % 1000
	return append(d, '.', byte('0'+f/100), byte('0'+f/10%10), byte('0'+f%10))
}

func appendAddr(d []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return append(d, '-')
	}
	return a.AppendTo(d)
}

func appendPeer(d []byte, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return append(d, '-')
	}
	return a.AppendTo(d)
}

// clock keeps the text of the last millisecond.
type clock struct {
	ms   int64
	text []byte
}

func (c *clock) rfc3339(t time.Time) []byte {
	if ms := t.UnixMilli(); ms != c.ms || c.text == nil {
		c.ms = ms
		c.text = t.UTC().AppendFormat(c.text[:0], "2006-01-02T15:04:05.000Z")
	}
	return c.text
}
