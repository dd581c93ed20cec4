package certs

import (
	"crypto/x509"
	"errors"
	"net"
	"testing"
)

func TestSANMatchers(t *testing.T) {
	ca := newCA("ca")
	c := ca.issue(func(c *x509.Certificate) {
		uri("spiffe://corp/ns/a")(c)
		c.EmailAddresses = []string{"Ann@corp.example"}
		c.IPAddresses = []net.IP{net.IPv4(10, 1, 2, 3), net.ParseIP("2001:db8::1")}
	}, "Db.Corp.example", "*.wild.example").cert
	for _, tt := range []struct {
		m    SANMatcher
		want bool
	}{
		{SANMatcher{SANDNS, MatchExact, "db.corp.example"}, true},
		{SANMatcher{SANDNS, MatchExact, "DB.corp.EXAMPLE"}, true},
		{SANMatcher{SANDNS, MatchExact, "b.corp.example"}, false},
		{SANMatcher{SANDNS, MatchExact, "a.wild.example"}, true},
		{SANMatcher{SANDNS, MatchExact, "a.b.wild.example"}, false},
		{SANMatcher{SANDNS, MatchExact, "wild.example"}, false},
		{SANMatcher{SANDNS, MatchExact, "*.wild.example"}, true},
		{SANMatcher{SANDNS, MatchPrefix, "db."}, true},
		{SANMatcher{SANDNS, MatchPrefix, "corp"}, false},
		{SANMatcher{SANDNS, MatchSuffix, ".Corp.example"}, true},
		{SANMatcher{SANDNS, MatchContains, "corp"}, true},
		{SANMatcher{SANDNS, MatchRegex, `d.\.corp\.example`}, true},
		{SANMatcher{SANDNS, MatchRegex, `corp`}, false},
		{SANMatcher{SANDNS, MatchRegex, `corp|db.*`}, true},
		{SANMatcher{SANDNS, MatchExact, "spiffe://corp/ns/a"}, false},
		{SANMatcher{SANURI, MatchExact, "spiffe://corp/ns/a"}, true},
		{SANMatcher{SANURI, MatchExact, "spiffe://CORP/ns/a"}, false},
		{SANMatcher{SANURI, MatchPrefix, "spiffe://corp/"}, true},
		{SANMatcher{SANEmail, MatchSuffix, "@corp.example"}, true},
		{SANMatcher{SANEmail, MatchExact, "ann@corp.example"}, false},
		{SANMatcher{SANIP, MatchExact, "10.1.2.3"}, true},
		{SANMatcher{SANIP, MatchExact, "::ffff:10.1.2.3"}, true},
		{SANMatcher{SANIP, MatchExact, "10.1.0.0/16"}, true},
		{SANMatcher{SANIP, MatchExact, "10.2.0.0/16"}, false},
		{SANMatcher{SANIP, MatchExact, "2001:0db8::1"}, true},
		{SANMatcher{SANIP, MatchPrefix, "10.1."}, true},
	} {
		m, err := tt.m.compile()
		if err != nil {
			t.Fatal(err)
		}
		if got := m.matches(c); got != tt.want {
			t.Errorf("%+v: %t", tt.m, got)
		}
	}
}

func TestPins(t *testing.T) {
	for pin, ok := range map[string]bool{
		"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=":                                                    true,
		"sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=":                                             true,
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855":                                true,
		"E3:B0:C4:42:98:FC:1C:14:9A:FB:F4:C8:99:6F:B9:24:27:AE:41:E4:64:9B:93:4C:A4:95:99:1B:78:52:B8:55": true,
		"e3b0": false, "": false, "x": false,
	} {
		if _, err := parsePin(pin); (err == nil) != ok {
			t.Errorf("%q: %v", pin, err)
		}
	}
}

func TestCRL(t *testing.T) {
	ca, other := newCA("ca"), newCA("ca") // of one name
	set, err := parseCRLs(append(ca.crl(ca.cert.NotAfter), other.crl(ca.cert.NotAfter)...), "crl")
	if err != nil || set.count != 2 {
		t.Fatal(set, err)
	}
	if set.verify([]*x509.Certificate{ca.cert}, "crl") == nil {
		t.Error("a list of an authority that is not trusted")
	}
	if err := set.verify([]*x509.Certificate{ca.cert, other.cert}, "crl"); err != nil {
		t.Error(err)
	}
	for _, data := range []string{"", "x", string(ca.pem), "0abc"} {
		if _, err := parseCRLs([]byte(data), "crl"); err == nil {
			t.Errorf("takes %q", data)
		}
	}
	if ReasonOf(nil) != ReasonNone || ReasonOf(errors.New("x")) != ReasonNone {
		t.Error("other errors have a reason")
	}
	seen := map[string]bool{}
	for _, r := range Reasons() {
		if s := r.String(); s == "" || seen[s] {
			t.Errorf("reason %d is %q", r, s)
		}
		seen[r.String()] = true
	}
}
