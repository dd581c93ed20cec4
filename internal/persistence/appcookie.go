package persistence

import (
	"bytes"
	"encoding/base64"
)

// prefixMark stands between the token and the application's value, as in
// HAProxy's "cookie NAME prefix". It is no base64url character, and a token has
// one length, so a "~" in the application's value does no harm.
const prefixMark = '~'

// SplitPrefix parts a cookie's value TOKEN~VALUE. If it has no token in front,
// token is nil and the whole is the application's: a client that came before
// persistence was switched on keeps its session.
func SplitPrefix(value []byte) (token, app []byte) {
	if len(value) <= TokenSize || value[TokenSize] != prefixMark {
		return nil, value
	}
	return value[:TokenSize], value[TokenSize+1:]
}

// SetCookieIs tells whether the value of a Set-Cookie header sets the cookie of
// a name.
func SetCookieIs(line []byte, name string) bool {
	_, _, ok := setValue(line, name)
	return ok
}

// SetCookieValue is the value that a Set-Cookie line gives to the cookie of a name,
// without quotes; nil if it sets another one. It is a part of line.
func SetCookieValue(line []byte, name string) []byte {
	from, to, ok := setValue(line, name)
	if !ok {
		return nil
	}
	if to-from >= 2 && line[from] == '"' && line[to-1] == '"' {
		from, to = from+1, to-1
	}
	return line[from:to]
}

// setValue is where the value of a Set-Cookie line begins and ends, if it sets
// the cookie of a name. Blanks around it are outside and quotes inside.
func setValue(line []byte, name string) (from, to int, ok bool) {
	to = len(line)
	if i := bytes.IndexByte(line, ';'); i >= 0 {
		to = i
	}
	eq := bytes.IndexByte(line[:to], '=')
	if eq < 0 || string(trim(line[:eq])) != name {
		return 0, 0, false
	}
	from = eq + 1
	for from < to && blank(line[from]) {
		from++
	}
	for to > from && blank(line[to-1]) {
		to--
	}
	return from, to, true
}

// AppendPrefixed appends a server's Set-Cookie line with the token put before
// its value. The line is appended as it is, and false returned, if it does not
// set the cookie of that name or sets it to nothing: a server that ends its
// session ends ours with it.
func AppendPrefixed(dst, line []byte, name string, token []byte) ([]byte, bool) {
	from, to, ok := setValue(line, name)
	if !ok || from == to || string(line[from:to]) == `""` {
		return append(dst, line...), false
	}
	if line[from] == '"' {
		from++ // TOKEN~ goes inside the quotes, which stay
	}
	dst = append(dst, line[:from]...)
	dst = append(dst, token...)
	dst = append(dst, prefixMark)
	return append(dst, line[from:]...), true
}

// RemovePrefix appends a Cookie line to dst with the tokens cut from the cookies
// of a name and tells how many there were. All else stays byte by byte. dst may
// be line[:0].
func RemovePrefix(dst, line []byte, name string) ([]byte, int) {
	removed := 0
	for rest := line; rest != nil; {
		pair := rest
		if i := bytes.IndexByte(rest, ';'); i >= 0 {
			pair, rest = rest[:i+1], rest[i+1:]
		} else {
			rest = nil
		}
		value, ours := valueOf(bytes.TrimSuffix(pair, []byte{';'}), name)
		token, _ := SplitPrefix(value)
		if !ours || token == nil {
			dst = append(dst, pair...)
			continue
		}
		removed++
		// value is a part of pair, so the difference of capacities is its place.
		at := cap(pair) - cap(value)
		dst = append(dst, pair[:at]...)
		dst = append(dst, pair[at+TokenSize+1:]...)
	}
	return dst, removed
}

// AppendEnvelope appends a token and a server's value of any bytes as one value
// that is good for a cookie or a header: TOKEN.BASE64URL(VALUE). It serves
// session headers (Envoy's envelope mode) and cookies whose values a prefix
// would make ambiguous. The reply has to have exactly one such value; with none
// or several there is nothing to wrap.
func AppendEnvelope(dst, token, value []byte) []byte {
	dst = append(dst, token...)
	dst = append(dst, '.')
	return base64.RawURLEncoding.AppendEncode(dst, value)
}

// OpenEnvelope parts an envelope and appends the server's value to dst. What is
// not an envelope returns false and appends nothing: pass it on as it is. dst
// must not be a part of value.
func OpenEnvelope(dst, value []byte) (token, out []byte, ok bool) {
	if len(value) <= TokenSize || value[TokenSize] != '.' {
		return nil, dst, false
	}
	text := value[TokenSize+1:]
	if bytes.ContainsAny(text, "\r\n") {
		return nil, dst, false // the decoder would skip them
	}
	out, err := encoding.AppendDecode(dst, text)
	if err != nil {
		return nil, dst, false
	}
	return value[:TokenSize], out, true
}

// AppendEnveloped is AppendPrefixed for envelopes: it wraps the value that a
// server's Set-Cookie line gives to the cookie of a name.
func AppendEnveloped(dst, line []byte, name string, token []byte) ([]byte, bool) {
	from, to, ok := setValue(line, name)
	if !ok || from == to || string(line[from:to]) == `""` {
		return append(dst, line...), false
	}
	dst = append(dst, line[:from]...)
	dst = AppendEnvelope(dst, token, line[from:to])
	return append(dst, line[to:]...), true
}

// RemoveEnvelope is RemovePrefix for envelopes: it puts the server's values back
// in a Cookie line. dst must not be a part of line. A value that a Cookie line
// could not carry is left wrapped, since only a forger makes one.
func RemoveEnvelope(dst, line []byte, name string) ([]byte, int) {
	removed := 0
	for rest := line; rest != nil; {
		pair := rest
		if i := bytes.IndexByte(rest, ';'); i >= 0 {
			pair, rest = rest[:i+1], rest[i+1:]
		} else {
			rest = nil
		}
		value, ours := valueOf(bytes.TrimSuffix(pair, []byte{';'}), name)
		start := len(dst)
		if !ours || len(value) == 0 {
			dst = append(dst, pair...)
			continue
		}
		at := cap(pair) - cap(value)
		dst = append(dst, pair[:at]...)
		begin := len(dst)
		_, out, ok := OpenEnvelope(dst, value)
		if !ok || bytes.ContainsFunc(out[begin:], notAttribute) {
			dst = append(dst[:start], pair...)
			continue
		}
		removed++
		dst = append(out, pair[at+len(value):]...)
	}
	return dst, removed
}
