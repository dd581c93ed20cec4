package http1

import "bytes"

// validAuthority reports whether b is a host with or without a port, as Host
// and an absolute-form target of the http scheme have it (RFC 9110 section
// 4.2.1, RFC 3986 section 3.2.2). A port is 1 to 65535, written out if there
// is a colon; there is no userinfo.
func validAuthority(b []byte) bool {
	i := 0
	if len(b) > 0 && b[0] == '[' {
		i = bytes.IndexByte(b, ']')
		if i < 0 || !validIPv6(b[1:i]) {
			return false
		}
		i++
	} else {
		for i < len(b) && hostClass[b[i]] {
			i++
		}
	}
	return i > 0 && (i == len(b) || b[i] == ':' && validPort(b[i+1:]))
}

func validPort(b []byte) bool {
	if len(b) == 0 || len(b) > 5 {
		return false
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n > 0 && n <= 65535
}

// validIPv6 reports whether b is an IPv6address of RFC 3986; it has no zone.
func validIPv6(b []byte) bool {
	groups, gap := 0, false
	for i := 0; i < len(b); {
		if b[i] == ':' {
			if i+1 == len(b) || b[i+1] != ':' || gap {
				return false
			}
			gap = true
			i += 2
			continue
		}
		n := 0
		for i+n < len(b) && n < 5 && hexValue[b[i+n]] != notHex {
			n++
		}
		switch {
		case i+n < len(b) && b[i+n] == '.':
			groups += 2
			return validIPv4(b[i:]) && (groups == 8 && !gap || groups < 8 && gap)
		case n == 0 || n > 4:
			return false
		}
		groups++
		i += n
		if i == len(b) {
			break
		}
		if b[i] != ':' || i+1 == len(b) {
			return false
		}
		if b[i+1] != ':' {
			i++
		}
	}
	return groups == 8 && !gap || groups < 8 && gap
}

// validIPv4 reports whether b is four decimal octets.
func validIPv4(b []byte) bool {
	for octet := 1; ; octet++ {
		n, i := 0, 0
		for i < len(b) && i < 3 && b[i] >= '0' && b[i] <= '9' {
			n = n*10 + int(b[i]-'0')
			i++
		}
		if i == 0 || n > 255 || i > 1 && b[0] == '0' {
			return false
		}
		if octet == 4 {
			return i == len(b)
		}
		if i == len(b) || b[i] != '.' {
			return false
		}
		b = b[i+1:]
	}
}
