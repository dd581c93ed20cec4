package http1

import "bytes"

// reduce finds out the form of the request target when its line is complete,
// and brings it to origin-form or "*" (RFC 9112 section 3.2).
func (r *Request) reduce(b []byte, o *Options) error {
	t := r.raw.of(b)
	r.target = r.raw
	switch {
	case r.Method == CONNECT:
		// authority-form, with a port (RFC 9110 section 9.3.6)
		if !validAuthority(t) || !hasPort(t) {
			return errForm
		}
		return errConnect
	case t[0] == '/':
	case t[0] == '*':
		if len(t) > 1 || r.Method != OPTIONS {
			return errForm
		}
		return nil
	default:
		if err := r.absoluteForm(t); err != nil {
			return err
		}
	}
	if r.class&classQuery != 0 {
		r.query = r.raw.off + bytes.IndexByte(t, '?')
	}
	if r.class&(classPercent|classBackslash) != 0 && len(r.built) == 0 {
		path := r.target.of(b)
		if r.query > 0 {
			path = b[r.target.off:r.query]
		}
		return checkPath(path, o)
	}
	return nil
}

// hasPort reports whether a valid authority ends with a port.
func hasPort(b []byte) bool {
	i := bytes.LastIndexByte(b, ':')
	return i > 0 && bytes.IndexByte(b[i:], ']') < 0
}

// absoluteForm splits a target into authority and the rest.
func (r *Request) absoluteForm(t []byte) error {
	i := bytes.IndexByte(t, ':')
	if i < 0 || !bytes.HasPrefix(t[i:], []byte("://")) {
		return errForm
	}
	if !isFold(t[:i], "http") {
		return errScheme
	}
	beg := i + 3
	end := beg
	for end < len(t) && t[end] != '/' && t[end] != '?' {
		end++
	}
	if !validAuthority(t[beg:end]) {
		return errHost
	}
	r.absolute = true
	r.host = span{r.raw.off + beg, r.raw.off + end}
	r.target.off = r.raw.off + end
	switch {
	case end == len(t) && r.Method == OPTIONS: // RFC 9112 section 3.2.4
		r.built = append(r.built[:0], '*')
	case end == len(t):
		r.built = append(r.built[:0], '/')
	case t[end] == '?':
		r.built = append(append(r.built[:0], '/'), t[end:]...)
	}
	return nil
}

// checkPath looks at escapes and backslashes.
func checkPath(p []byte, o *Options) error {
	for i := 0; i < len(p); i++ {
		switch p[i] {
		case '\\':
			if !o.AllowBackslash {
				return errBackslash
			}
		case '%':
			if i+2 >= len(p) || hexValue[p[i+1]] == notHex || hexValue[p[i+2]] == notHex {
				return errEscape
			}
			switch hexValue[p[i+1]]<<4 | hexValue[p[i+2]] {
			case 0, '\n', '\r':
				if !o.AllowEscapedControl {
					return errControl
				}
			}
			i += 2
		}
	}
	return nil
}
