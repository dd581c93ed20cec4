package config

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// tlsVersion is "1.2" or "1.3".
type tlsVersion uint16

func (x *tlsVersion) set(v any) error {
	switch s, err := text(v); {
	case err != nil:
		return err
	case s == "1.2":
		*x = tls.VersionTLS12
	case s == "1.3":
		*x = tls.VersionTLS13
	case s == "1.0", s == "1.1":
		return fmt.Errorf("TLS %s is broken (RFC 8996): the least is 1.2", s)
	default:
		return fmt.Errorf(`must be "1.2" or "1.3", not %q`, s)
	}
	return nil
}

// cipherSuite is a suite of TLS 1.2 by its IANA name. Those of 1.3 cannot be
// chosen in Go, and the order of the others is Go's.
type cipherSuite uint16

func (x *cipherSuite) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	var names []string
	for _, c := range tls.CipherSuites() {
		if !slices.Contains(c.SupportedVersions, tls.VersionTLS12) {
			if c.Name == s {
				return fmt.Errorf("%s is of TLS 1.3, whose suites are always on", s)
			}
			continue
		}
		names = append(names, c.Name)
		if c.Name == s {
			*x = cipherSuite(c.ID)
			return nil
		}
	}
	for _, c := range tls.InsecureCipherSuites() {
		if c.Name == s {
			return fmt.Errorf("%s is not safe", s)
		}
	}
	return fmt.Errorf("no cipher suite %q%s", s, hint(s, names))
}

// curve is a key exchange by its name in the TLS registry.
type curve tls.CurveID

var curves = []struct {
	name string
	id   tls.CurveID
}{
	{"X25519MLKEM768", tls.X25519MLKEM768}, {"SecP256r1MLKEM768", tls.SecP256r1MLKEM768}, {"SecP384r1MLKEM1024", tls.SecP384r1MLKEM1024},
	{"X25519", tls.X25519}, {"secp256r1", tls.CurveP256}, {"secp384r1", tls.CurveP384}, {"secp521r1", tls.CurveP521},
}

func (x *curve) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	var names []string
	for _, c := range curves {
		if strings.EqualFold(c.name, s) {
			*x = curve(c.id)
			return nil
		}
		names = append(names, strconv.Quote(c.name))
	}
	return fmt.Errorf("must be %s, not %q", orList(names), s)
}

// alpnName is a protocol name (RFC 7301 section 3.1).
type alpnName string

func (x *alpnName) set(v any) error {
	s, err := text(v)
	if err == nil && (s == "" || len(s) > 255) {
		err = fmt.Errorf("%q: a protocol name has 1 to 255 bytes", s)
	}
	*x = alpnName(s)
	return err
}

// serverName is a name that a client asks for: a host, or "*." before one, which
// stands for one label.
type serverName string

func (x *serverName) set(v any) error {
	var h hostPattern
	if err := h.set(v); err != nil {
		return err
	}
	if ip, err := netip.ParseAddr(strings.Trim(string(h), "[]")); err == nil {
		return fmt.Errorf("%s: clients send no address as server name (RFC 6066)", ip)
	}
	*x = serverName(h)
	return nil
}

// altName is a name in a certificate: a server name or an IP address.
type altName string

func (x *altName) set(v any) error {
	if s, ok := v.(string); ok {
		if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
			*x = altName(ip.Unmap().String())
			return nil
		}
	}
	var n serverName
	err := n.set(v)
	*x = altName(n)
	return err
}

const credentialPrefix = "credential:"

// secretFile is an absolute path, or "credential:NAME".
type secretFile Secret

func (x *secretFile) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	if name, ok := strings.CutPrefix(s, credentialPrefix); ok {
		if name == "" || len(name) > 255 || strings.ContainsAny(name, "/\x00") || name == "." || name == ".." {
			return fmt.Errorf("%q is not the name of a credential", name)
		}
		x.Credential = name
		return nil
	}
	if s == selfSigned {
		x.File = s
		return nil
	}
	if !strings.HasPrefix(s, "/") || strings.ContainsRune(s, 0) {
		return fmt.Errorf(`%q must be an absolute path or "credential:NAME"`, s)
	}
	x.File = s
	return nil
}

// selfSigned is the cert of a certificate for development.
const selfSigned = "self-signed"

// pin is a SHA-256, in hexadecimal digits with or without colons, or in base64.
type pin [32]byte

func (x *pin) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	sum, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil {
		sum, err = base64.StdEncoding.DecodeString(s)
	}
	if err != nil || len(sum) != len(x) {
		return errors.New("must be a SHA-256 as 64 hexadecimal digits or in base64")
	}
	copy(x[:], sum)
	return nil
}

// certDetail is one part of X-Forwarded-Client-Cert.
type certDetail string

var certDetails = []string{"subject", "cert", "chain", "dns", "uri", "issuer"}

func (x *certDetail) set(v any) error {
	s, err := text(v)
	if err == nil && !slices.Contains(certDetails, s) {
		err = fmt.Errorf("no detail %q%s", s, hint(s, certDetails))
	}
	*x = certDetail(s)
	return err
}

// upstreamSNI is a name, "host" or "none".
type upstreamSNI struct {
	name string
	host bool
}

func (x *upstreamSNI) set(v any) error {
	s, err := text(v)
	if err != nil {
		return err
	}
	switch s {
	case "host":
		x.host = true
	case "none":
	default:
		var n serverName
		if err = n.set(s); err == nil && strings.HasPrefix(string(n), "*.") {
			err = fmt.Errorf("%q: a server asks for one name", s)
		}
		x.name = string(n)
	}
	return err
}
