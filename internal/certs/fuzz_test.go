package certs

import "testing"

// Files come from an operator, but half-written ones are read every day.
func FuzzParse(f *testing.F) {
	ca := newCA("ca")
	c := ca.issue(nil, "x.example")
	f.Add(c.chain, c.key)
	f.Add(ca.crl(ca.cert.NotAfter, c.cert), c.key)
	f.Fuzz(func(t *testing.T, chain, key []byte) {
		p, err := ParsePair(&Material{Chain: chain, Key: key, Staple: key, ChainName: "c", KeyName: "k", StapleName: "s"})
		if (p == nil) == (err == nil) {
			t.Errorf("%v and %v", p, err)
		}
		if set, err := parseCRLs(chain, "c"); (set == nil) == (err == nil) {
			t.Errorf("%v and %v", set, err)
		}
	})
}
