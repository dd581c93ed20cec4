package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// maxUnixPath is what sun_path holds, without its NUL; unix(7).
const maxUnixPath = 107

// listenAddr is "ip:port", ":port" or "unix:/path".
type listenAddr struct {
	ap   netip.AddrPort
	unix string
}

func (a *listenAddr) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	if p, ok := strings.CutPrefix(s, "unix:"); ok {
		a.unix = p
		return unixPath(p)
	}
	a.ap, err = ipPort(s)
	return err
}

// metricsAddr is "ip:port", ":port" or "none".
type metricsAddr struct{ ap netip.AddrPort }

func (a *metricsAddr) set(v any) error {
	s, err := text(v)
	if err != nil || s == "none" {
		return err
	}
	a.ap, err = ipPort(s)
	return err
}

// dnsServer is "ip:port" or "ip", which means port 53.
type dnsServer struct{ ap netip.AddrPort }

func (a *dnsServer) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil && ip.Zone() == "" {
		a.ap = netip.AddrPortFrom(ip.Unmap(), 53)
		return nil
	}
	a.ap, err = ipPort(s)
	return err
}

// endpointAddr is "ip:port", "name:port" or "unix:/path".
type endpointAddr struct {
	host string
	port uint16
	unix string
}

func (a *endpointAddr) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	if p, ok := strings.CutPrefix(s, "unix:"); ok {
		a.unix = p
		return unixPath(p)
	}
	host, port, err := splitPort(s)
	if err != nil {
		return err
	}
	a.port = port
	if ip, err := netip.ParseAddr(host); err == nil {
		a.host = host
		if ip.Is6() {
			a.host = ip.Unmap().String()
		}
		return noZone(ip)
	}
	a.host = strings.ToLower(host)
	if host == "" || !isHostName(strings.TrimSuffix(a.host, ".")) {
		return fmt.Errorf("%q is neither an IP address nor a host name", host)
	}
	return nil
}

// String is the default id of an endpoint.
func (a *endpointAddr) String() string {
	if a.unix != "" {
		return "unix:" + a.unix
	}
	return net.JoinHostPort(a.host, strconv.Itoa(int(a.port)))
}

// ipPort parses an address to listen on or to ask. IPv4-mapped addresses
// become IPv4, so that equal ones compare as equal.
func ipPort(s string) (netip.AddrPort, error) {
	host, port, err := splitPort(s)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if host == "" {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), port), nil
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "*":
		return netip.AddrPort{}, fmt.Errorf("write %q for all addresses", ":"+strconv.Itoa(int(port)))
	case err != nil:
		return netip.AddrPort{}, fmt.Errorf("%q is not an IP address", host)
	}
	return netip.AddrPortFrom(ip.Unmap(), port), noZone(ip)
}

func noZone(ip netip.Addr) error {
	if ip.Zone() != "" {
		return fmt.Errorf("%q has a zone: not supported", ip)
	}
	return nil
}

// splitPort takes host and port apart; an IPv6 host loses its brackets.
func splitPort(s string) (string, uint16, error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.HasSuffix(s, "]") {
		return "", 0, fmt.Errorf("%q has no port", s)
	}
	host, number := s[:i], s[i+1:]
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if !ok || !strings.Contains(inner, ":") {
			return "", 0, fmt.Errorf("%q is not an address", s)
		}
		host = inner
	} else if strings.Contains(host, ":") {
		return "", 0, fmt.Errorf(`%q: an IPv6 address is written in brackets, such as "[::1]:80"`, s)
	}
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil || port == 0 {
		return "", 0, fmt.Errorf("%q: the port must be from 1 to 65535", s)
	}
	return host, uint16(port), nil
}

func unixPath(p string) error {
	switch {
	case !strings.HasPrefix(p, "/"):
		return errors.New(`"unix:" needs an absolute path, such as "unix:/run/app.sock"`)
	case strings.ContainsRune(p, 0):
		return fmt.Errorf("%q has a NUL in it", p)
	case len(p) > maxUnixPath:
		return fmt.Errorf("the path is %d bytes long; a Unix socket takes %d", len(p), maxUnixPath)
	}
	return nil
}

// prefix is a CIDR range or a single address.
type prefix struct{ netip.Prefix }

func (p *prefix) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		p.Prefix = netip.PrefixFrom(ip, ip.BitLen())
		return nil
	}
	x, err := netip.ParsePrefix(s)
	if err != nil {
		return fmt.Errorf(`%q is not an address range such as "10.0.0.0/8" or "2001:db8::/32"`, s)
	}
	if x.Masked() != x {
		return fmt.Errorf("%q has bits behind its length: write %q or %q", s, x.Masked(), x.Addr())
	}
	if x.Addr().Is4In6() && x.Bits() >= 96 {
		x = netip.PrefixFrom(x.Addr().Unmap(), x.Bits()-96)
	}
	p.Prefix = x
	return nil
}

// hostPattern is a host that a route answers to: in lower case, without port
// and trailing dot, "*." allowed in front, IPv6 in brackets.
type hostPattern string

func (h *hostPattern) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	if s == "*" {
		return errors.New("leave hosts out to match every host")
	}
	x := strings.ToLower(strings.TrimSuffix(s, "."))
	name, wildcard := strings.CutPrefix(x, "*.")
	if !wildcard {
		x, err = hostName(x)
	} else if strings.Contains(name, "*") || !isHostName(name) || isIPv4(name) {
		err = fmt.Errorf(`%q is not a host: "*." may only stand in front of a name`, s)
	}
	*h = hostPattern(x)
	return err
}

// hostRef is a host without port, as it goes into a Location.
type hostRef string

func (h *hostRef) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	x, err := hostName(s)
	*h = hostRef(x)
	return err
}

// hostName checks a host without port. IPv6 in brackets gets its short form.
func hostName(s string) (string, error) {
	if strings.HasPrefix(s, "[") {
		ip, err := netip.ParseAddr(strings.Trim(s, "[]"))
		if err != nil || !ip.Is6() || ip.Zone() != "" || !strings.HasSuffix(s, "]") {
			return "", fmt.Errorf("%q is not a host", s)
		}
		return "[" + ip.String() + "]", nil
	}
	host, _, port := strings.Cut(s, ":")
	switch {
	case port && isHostName(strings.ToLower(host)):
		return "", fmt.Errorf("%q has a port: only the host belongs here", s)
	case strings.Contains(s, "*"):
		return "", fmt.Errorf(`%q is not a host: "*." may only stand in front of a name`, s)
	case !isASCII(s):
		return "", fmt.Errorf(`%q is not ASCII: write the name in its "xn--" form`, s)
	case !isHostName(strings.ToLower(s)):
		return "", fmt.Errorf("%q is not a host", s)
	}
	return s, nil
}

// authority is what a Host field may have: host, with or without a port.
type authority string

func (a *authority) set(v any) error {
	s, err := text(v)
	if err != nil || s == "" {
		return err
	}
	host := s
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		if _, _, err := splitPort(s); err != nil {
			return err
		}
		host = s[:i]
	}
	*a = authority(s)
	_, err = hostName(host)
	return err
}

// isHostName tells whether s, in lower case, can be looked up: labels of
// letters, digits, "-" and, as some networks have it, "_" (RFC 1123 2.1), or
// an IPv4 address. A last label of digits alone is a mistyped address.
func isHostName(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	label, digits := 0, true
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.':
			if label == 0 || s[i-1] == '-' {
				return false
			}
			label, digits = 0, true
			continue
		case c == '-':
			if label == 0 {
				return false
			}
			digits = false
		case c >= 'a' && c <= 'z' || c == '_':
			digits = false
		case c < '0' || c > '9':
			return false
		}
		if label++; label > 63 {
			return false
		}
	}
	return label > 0 && s[len(s)-1] != '-' && (!digits || isIPv4(s))
}

func isIPv4(s string) bool {
	ip, err := netip.ParseAddr(s)
	return err == nil && ip.Is4()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
