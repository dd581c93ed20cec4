package route

import (
	"bytes"

	"belay/internal/config"
)

// RewritePath appends the path that goes to the endpoint. It begins with "/"
// whatever the rule made of it.
func RewritePath(dst []byte, r *config.Route, path []byte) []byte {
	w := r.PathRewrite
	if w == nil {
		return append(dst, path...)
	}
	start := len(dst)
	switch {
	case w.Prefix != nil:
		dst = replacePrefix(dst, r.PathPrefix, *w.Prefix, path)
	case w.Regex != nil:
		dst = replaceAll(dst, w, path)
	default:
		dst = append(dst, path...)
	}
	if len(dst) == start || dst[start] != '/' {
		dst = append(dst, 0)
		copy(dst[start+1:], dst[start:])
		dst[start] = '/'
	}
	return dst
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

func replaceAll(dst []byte, w *config.PathRewrite, path []byte) []byte {
	for {
		m := w.Regex.FindSubmatchIndex(path)
		if m == nil {
			return append(dst, path...)
		}
		dst = append(dst, path[:m[0]]...)
		dst = w.Regex.Expand(dst, []byte(w.Replace), path, m)
		if m[1] == m[0] { // an empty match: step over one byte
			if m[1] == len(path) {
				return dst
			}
			dst = append(dst, path[m[1]])
			m[1]++
		}
		path = path[m[1]:]
	}
}

// Location appends the target of a redirect; what the rule leaves open is the
// request's. host is the request's authority; scheme is the connection's.
func Location(dst []byte, r *config.Route, scheme string, host, path, query []byte, hasQuery bool) []byte {
	d := r.Redirect
	name, port := splitPort(host)
	if d.Scheme != "" && d.Scheme != scheme { // the request's port was the other scheme's
		scheme, port = d.Scheme, nil
	}
	if d.Host != "" {
		name, port = splitPort([]byte(d.Host))
	}
	if d.Port != "" {
		port = []byte(d.Port)
	}
	if scheme == "http" && string(port) == "80" || scheme == "https" && string(port) == "443" {
		port = nil
	}
	dst = append(append(append(dst, scheme...), "://"...), name...)
	if len(port) > 0 {
		dst = append(append(dst, ':'), port...)
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
	return dst
}

// splitPort takes an authority apart; [v6] keeps its brackets.
func splitPort(host []byte) (name, port []byte) {
	i := bytes.LastIndexByte(host, ':')
	if i < 0 || bytes.IndexByte(host[i:], ']') >= 0 {
		return host, nil
	}
	return host[:i], host[i+1:]
}
