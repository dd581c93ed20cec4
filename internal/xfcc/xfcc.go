// Package xfcc tells a backend which certificate the client has shown: in
// X-Forwarded-Client-Cert with the grammar of Envoy, and in Client-Cert and
// Client-Cert-Chain (RFC 9440).
//
//	value   = element *("," element)      one of each proxy
//	element = pair *(";" pair)
//	pair    = key "=" (plain / DQUOTE quoted DQUOTE)
//
// Readers disagree on backslashes within quotes. So none of our values has a
// quote or ends with a backslash: what could be either is written otherwise
// (%22 in a URI, \22 in a subject, RFC 4514), and no certificate can end its
// value early and begin another key.
package xfcc

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"strings"
)

// Mode says what happens to the header of a request.
type Mode uint8

// The modes, as Envoy names them. All but AlwaysForwardOnly remove the header
// when the client has shown no certificate.
const (
	Sanitize          Mode = iota // remove it
	ForwardOnly                   // leave it as it came
	AppendForward                 // add an element for this client
	SanitizeSet                   // replace it by one
	AlwaysForwardOnly             // leave it as it came, without a certificate too
)

var modes = [...]string{"sanitize", "forward_only", "append_forward", "sanitize_set", "always_forward_only"}

func (m Mode) String() string { return modes[m] }

// ParseMode finds a mode by its name.
func ParseMode(name string) (Mode, bool) {
	for i, s := range modes {
		if s == name {
			return Mode(i), true
		}
	}
	return 0, false
}

// Details is the set of keys in an element beside By and Hash.
type Details uint8

// The details, in the order Envoy writes them.
const (
	Cert Details = 1 << iota
	Chain
	Subject
	URI
	DNS
)

var details = [...]string{"cert", "chain", "subject", "uri", "dns"}

// ParseDetail finds a detail by its name.
func ParseDetail(name string) (Details, bool) {
	for i, s := range details {
		if s == name {
			return 1 << i, true
		}
	}
	return 0, false
}

// Element makes an element of a client's chain, leaf first. By are the URI names
// of our own certificate.
func Element(d Details, by []string, chain []*x509.Certificate) string {
	var b strings.Builder
	pair := func(key, value string) {
		if b.Len() > 0 {
			b.WriteByte(';')
		}
		b.WriteString(key)
		b.WriteByte('=')
		b.WriteString(value)
	}
	for _, uri := range by {
		pair("By", plain(uri))
	}
	leaf := chain[0]
	sum := sha256.Sum256(leaf.Raw)
	pair("Hash", hex.EncodeToString(sum[:]))
	if d&Cert != 0 {
		pair("Cert", `"`+encodedPEM(chain[:1])+`"`)
	}
	if d&Chain != 0 {
		pair("Chain", `"`+encodedPEM(chain)+`"`)
	}
	if d&Subject != 0 {
		pair("Subject", `"`+SubjectName(leaf)+`"`)
	}
	if d&URI != 0 {
		if len(leaf.URIs) == 0 {
			pair("URI", "") // Envoy has the key always
		}
		for _, u := range leaf.URIs {
			pair("URI", plain(u.String()))
		}
	}
	if d&DNS != 0 {
		for _, name := range leaf.DNSNames {
			pair("DNS", plain(name))
		}
	}
	return b.String()
}

const upperHex = "0123456789ABCDEF"

// plain writes a URI or a name: quoted if it has one of the grammar's signs, with
// what cannot stand in a header or would end the quotes percent-encoded.
func plain(s string) string {
	var b strings.Builder
	quoted := strings.ContainsAny(s, ",;=")
	if quoted {
		b.WriteByte('"')
	}
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			b.Write([]byte{'%', upperHex[c>>4], upperHex[c&15]})
			continue
		}
		b.WriteByte(c)
	}
	if quoted {
		b.WriteByte('"')
	}
	return b.String()
}

// SubjectName is a certificate's subject in the form of RFC 4514, in printable
// ASCII without quotes.
func SubjectName(c *x509.Certificate) string { return subject(c.Subject.String()) }

// subject takes a name in the form of RFC 4514 and writes its quotes,
// backslashes and everything outside of printable ASCII as hexadecimal pairs,
// which the same RFC allows.
func subject(s string) string {
	var b strings.Builder
	hexPair := func(c byte) { b.Write([]byte{'\\', upperHex[c>>4], upperHex[c&15]}) }
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			i++
			hexPair(s[i])
		case c == '\\' && i+1 < len(s) && s[i+1] > ' ' && s[i+1] < 0x7f:
			i++
			b.Write([]byte{c, s[i]})
		case c == '\\' && i+1 < len(s): // an escaped space
			i++
			hexPair(s[i])
		case c < ' ' || c >= 0x7f || c == '"' || c == '\\':
			hexPair(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// pemEncoding is the part of percent-encoding that PEM needs; the same as
// Envoy's.
var pemEncoding = strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B", "/", "%2F", "=", "%3D")

func encodedPEM(chain []*x509.Certificate) string {
	var b strings.Builder
	for _, c := range chain {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return pemEncoding.Replace(b.String())
}

// Value gives the header of a request from what it came with, lines joined by
// commas, and the client's element, empty for a client without certificate. If
// nothing is left the header is to be removed. The value is old, element, or old
// with element behind it in old's memory.
func (m Mode) Value(old, element []byte) []byte {
	switch {
	case m == AlwaysForwardOnly, m == ForwardOnly && len(element) > 0:
		return old
	case m == Sanitize || len(element) == 0 || m == ForwardOnly:
		return nil
	case m == AppendForward && len(old) > 0 && closed(old):
		return append(append(old, ','), element...)
	}
	return element
}

// closed reports whether all quotes of a value are closed, so that what is
// appended is read as an element of its own. A value whose quotes are not is
// dropped: it could only be meant to hide ours.
func closed(s []byte) bool {
	inside := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			inside = !inside
		case s[i] == '\\' && inside:
			i++
		}
	}
	return !inside && closedPlainly(s)
}

var quote, escapedQuote = []byte(`"`), []byte(`\"`)

// closedPlainly is closed for readers to whom only \" is an escape, anywhere.
func closedPlainly(s []byte) bool {
	quotes := bytes.Count(s, quote) - bytes.Count(s, escapedQuote)
	return quotes%2 == 0
}

// ClientCert is the value of Client-Cert.
func ClientCert(c *x509.Certificate) string {
	return ":" + base64.StdEncoding.EncodeToString(c.Raw) + ":"
}

// ClientCertChain is the value of Client-Cert-Chain: the chain without its leaf;
// "" if nothing remains.
func ClientCertChain(chain []*x509.Certificate) string {
	var b strings.Builder
	for i, c := range chain[1:] {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(ClientCert(c))
	}
	return b.String()
}
