package route

import (
	"bytes"
	"slices"

	"belay/internal/config"
)

// RewritePath appends the path that goes to the endpoint; dst must not share
// memory with path. The result begins with "/", with no second one unless path
// does too ("//host" in the endpoint's own redirect would lead to that host),
// and has nothing that ends a path or a request line, whatever the rule made of
// it. With a regex it allocates.
func RewritePath(dst []byte, r *config.Route, path []byte) []byte {
	w := r.PathRewrite
	start := len(dst)
	switch {
	case w == nil:
		return append(dst, path...)
	case w.Prefix != nil:
		dst = replacePrefix(dst, r.PathPrefix, *w.Prefix, path)
	default:
		dst = append(dst, w.Regex.ReplaceAll(path, []byte(w.Replace))...)
	}
	slashes := len(dst[start:]) - len(bytes.TrimLeft(dst[start:], "/"))
	switch {
	case slashes == 0:
		dst = slices.Insert(dst, start, '/')
	case slashes > 1 && !bytes.HasPrefix(path, []byte("//")):
		dst = slices.Delete(dst, start+1, start+slashes)
	}
	return escape(dst, start, '?')
}

// replacePrefix puts to in the place of the matched prefix, with exactly one
// slash between it and what follows.
func replacePrefix(dst []byte, prefix, to string, path []byte) []byte {
	rest := path[min(len(prefix), len(path)):]
	dst = append(dst, to...)
	if len(rest) == 0 {
		return dst
	}
	ends := len(to) > 0 && to[len(to)-1] == '/'
	switch {
	case ends && rest[0] == '/':
		rest = rest[1:]
	case !ends && rest[0] != '/':
		dst = append(dst, '/')
	}
	return append(dst, rest...)
}

// Location appends where a redirect leads to, as an absolute URI: a path alone
// that begins with "//" would lead to another host. What the rule leaves open is
// the request's; its port only if neither scheme nor host is given, for it
// belongs to those. scheme is the connection's, host the request's authority;
// dst must not share memory with them. Nothing gets in that could end a line.
func Location(dst []byte, r *config.Route, scheme string, host, path, query []byte, hasQuery bool) []byte {
	d := r.Redirect
	start := len(dst)
	name, port := splitPort(host)
	if d.Scheme != "" {
		scheme, port = d.Scheme, nil
	}
	dst = append(append(dst, scheme...), "://"...)
	if d.Host != "" {
		dst, port = append(dst, d.Host...), nil
	} else {
		dst = append(dst, name...)
	}
	switch {
	case d.Port != "":
		dst = appendPort(dst, scheme, []byte(d.Port))
	case len(port) > 0:
		dst = appendPort(dst, scheme, port)
	}
	switch {
	case d.Path != "":
		dst = append(dst, d.Path...)
	case d.PathPrefix != "":
		dst = replacePrefix(dst, r.PathPrefix, d.PathPrefix, path)
	default:
		dst = append(dst, path...)
	}
	if hasQuery && !d.StripQuery {
		dst = append(append(dst, '?'), query...)
	}
	return escape(dst, start, 0)
}

// appendPort leaves out what the scheme says already (RFC 9110 section 4.2.3).
func appendPort(dst []byte, scheme string, port []byte) []byte {
	if scheme == "http" && string(port) == "80" || scheme == "https" && string(port) == "443" {
		return dst
	}
	return append(append(dst, ':'), port...)
}

// escape writes the bytes of b[start:] that a target has not (RFC 3986 section 2;
// "#" would begin what only a client sees), and also, as %XX.
func escape(b []byte, start int, also byte) []byte {
	bad := func(c byte) bool { return c <= ' ' || c >= 0x7f || c == '#' || c == also }
	i := start
	for i < len(b) && !bad(b[i]) {
		i++
	}
	if i == len(b) {
		return b
	}
	const hex = "0123456789ABCDEF"
	tail := bytes.Clone(b[i:])
	b = b[:i]
	for _, c := range tail {
		if bad(c) {
			b = append(b, '%', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}
