package persistence

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// SameSite is the attribute of that name (RFC 6265bis section 5.6.7).
type SameSite uint8

// The values of SameSite; SameSiteUnset writes no attribute.
const (
	SameSiteUnset SameSite = iota
	SameSiteLax
	SameSiteStrict
	SameSiteNone
)

var sameSites = [...]string{"", "Lax", "Strict", "None"}

// String is the attribute's value, "" if there is none.
func (s SameSite) String() string {
	if int(s) < len(sameSites) {
		return sameSites[s]
	}
	return fmt.Sprintf("SameSite(%d)", uint8(s))
}

// ParseSameSite reads a value without regard to case; "" is SameSiteUnset.
func ParseSameSite(s string) (SameSite, error) {
	i := slices.IndexFunc(sameSites[:], func(v string) bool { return strings.EqualFold(v, s) })
	if i < 0 {
		return 0, fmt.Errorf("same_site %q is none of lax, strict, none", s)
	}
	return SameSite(i), nil
}

// Cookie is what a Set-Cookie line says besides value and age. The zero Path is
// "/".
type Cookie struct {
	Name        string
	Path        string
	Domain      string
	SameSite    SameSite
	Secure      bool
	HTTPOnly    bool
	Partitioned bool
}

// prefixes are the names that a browser takes only with attributes (RFC 6265bis
// section 4.1.3), compared without regard to case as section 5.7 asks.
var prefixes = []struct {
	name           string
	host, httpOnly bool
}{
	{"__Host-Http-", true, true},
	{"__Host-", true, false},
	{"__Http-", false, true},
	{"__Secure-", false, false},
}

// Check tells all that a browser would refuse or read otherwise.
func (c *Cookie) Check() error {
	var errs []error
	if c.Name == "" || len(c.Name) > 128 || strings.ContainsFunc(c.Name, notToken) {
		errs = append(errs, fmt.Errorf("cookie name %q is not a token of 1 to 128 characters", c.Name))
	}
	if c.Path != "" && (c.Path[0] != '/' || len(c.Path) > 1024 || strings.ContainsFunc(c.Path, notAttribute)) {
		errs = append(errs, fmt.Errorf("cookie path %q does not begin with / or has a ; or control character", c.Path))
	}
	if c.Domain != "" && !isDomain(c.Domain) {
		errs = append(errs, fmt.Errorf("cookie domain %q is not a host name", c.Domain))
	}
	if c.SameSite == SameSiteNone && !c.Secure {
		errs = append(errs, errors.New("a cookie with same_site none has to be secure"))
	}
	if c.Partitioned && !c.Secure {
		errs = append(errs, errors.New("a partitioned cookie has to be secure"))
	}
	for _, p := range prefixes {
		if len(c.Name) < len(p.name) || !strings.EqualFold(c.Name[:len(p.name)], p.name) {
			continue
		}
		if !c.Secure {
			errs = append(errs, fmt.Errorf("a cookie named %s… has to be secure", p.name))
		}
		if p.host && (c.Domain != "" || c.Path != "" && c.Path != "/") {
			errs = append(errs, fmt.Errorf("a cookie named %s… has path / and no domain", p.name))
		}
		if p.httpOnly && !c.HTTPOnly {
			errs = append(errs, fmt.Errorf("a cookie named %s… has to be http_only", p.name))
		}
		break
	}
	return errors.Join(errs...)
}

// notToken tells the characters that no cookie's name has (RFC 9110 section 5.6.2).
func notToken(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
}

// notAttribute tells the characters that no attribute has (RFC 6265bis section 4.1.1).
func notAttribute(r rune) bool { return r < ' ' || r >= 0x7f || r == ';' }

// isDomain tells whether s is a host name; a leading dot is ignored by browsers
// (RFC 6265bis section 5.6.3), so it is refused rather than misread.
func isDomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		bad := func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-')
		}
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, bad) {
			return false
		}
	}
	return true
}

// Writer writes the Set-Cookie lines of one cookie. It is immutable.
type Writer struct {
	Name       string
	head, tail string
}

// NewWriter makes the writer of a cookie that Check finds right.
func NewWriter(c *Cookie) (*Writer, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	w := &Writer{Name: c.Name, head: c.Name + "="}
	path := c.Path
	if path == "" {
		path = "/"
	}
	w.tail = "; Path=" + path
	if c.Domain != "" {
		w.tail += "; Domain=" + c.Domain
	}
	if c.SameSite != SameSiteUnset {
		w.tail += "; SameSite=" + c.SameSite.String()
	}
	if c.Secure {
		w.tail += "; Secure"
	}
	if c.HTTPOnly {
		w.tail += "; HttpOnly"
	}
	if c.Partitioned {
		w.tail += "; Partitioned"
	}
	return w, nil
}

// Append appends the value of a Set-Cookie header that sets the cookie for
// maxAge seconds, or until the browser ends if that is 0.
func (w *Writer) Append(dst, value []byte, maxAge uint32) []byte {
	dst = w.Begin(dst)
	dst = append(dst, value...)
	return w.End(dst, maxAge)
}

// Begin appends what stands before the value; Ring.Seal or Mint may append the
// value itself and End the rest, which saves a copy.
func (w *Writer) Begin(dst []byte) []byte { return append(dst, w.head...) }

// End appends what stands after the value.
func (w *Writer) End(dst []byte, maxAge uint32) []byte {
	dst = append(dst, w.tail...)
	if maxAge > 0 {
		dst = append(dst, "; Max-Age="...)
		dst = strconv.AppendUint(dst, uint64(maxAge), 10)
	}
	return dst
}

// AppendDelete appends the value of a Set-Cookie header that ends the cookie
// (RFC 6265bis section 5.6.2).
func (w *Writer) AppendDelete(dst []byte) []byte {
	dst = w.Begin(dst)
	dst = append(dst, w.tail...)
	return append(dst, "; Max-Age=0"...)
}
