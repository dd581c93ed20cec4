package test

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"belay/test/harness"
)

// Ten thousand certificates: how long the start takes, and what finding one costs,
// beside a listener with a single one.
func TestTLSManyCertificates(t *testing.T) {
	if testing.Short() {
		t.Skip("ten thousand certificates take a while")
	}
	const many = 10000
	a := harness.NewAuthority(t)
	var b strings.Builder
	for i := range many {
		b.WriteString(pairOf(a.Issue(harness.Leaf{Name: fmt.Sprintf("c%d", i), DNS: []string{fmt.Sprintf("c%d.example", i)}})) + ",\n")
	}
	single := harness.Addr(t)
	s := &site{tables: "[listener.web.tls]\ncertificates = [" + b.String() + "]\n", routes: fmt.Sprintf(respond, "x"),
		more: fmt.Sprintf("[listener.single]\naddress = %q\n[listener.single.tls]\ncertificates = [%s]\n[[listener.single.route]]\nrespond = { status = 200 }\n",
			single, pairOf(a.Issue(harness.Leaf{Name: "single", DNS: []string{"single.example"}})))}
	began := time.Now()
	d := serve(t, s, harness.Options{WaitTime: time.Minute})
	t.Logf("%d certificates: ready after %v", many, time.Since(began).Round(time.Millisecond))
	for _, i := range []int{0, 1, many / 2, many - 1} {
		if got := served(s.addr, fmt.Sprintf("c%d.example", i)); got != fmt.Sprintf("c%d", i) {
			t.Errorf("c%d.example: certificate %q", i, got)
		}
	}
	per := func(addr, name string) time.Duration {
		const n = 200
		began := time.Now()
		for range n {
			if c, err := tlsDial(addr, &tls.Config{InsecureSkipVerify: true, ServerName: name}); err == nil {
				_ = c.Close()
			}
		}
		return time.Since(began) / n
	}
	for range 3 {
		t.Logf("handshake with one of %d: %v, with the only one: %v", many, per(s.addr, "c9999.example"), per(single, "single.example"))
	}
	n := d.CountLines("certificate loaded")
	a.Issue(harness.Leaf{Name: "c77", DNS: []string{"c77.example", "renewed.example"}})
	harness.Eventually(t, patience, "the one that was renewed", func() bool { return served(s.addr, "renewed.example") == "c77" })
	if m := d.CountLines("certificate loaded") - n; m != 1 {
		t.Errorf("%d certificates were loaded for one that changed", m)
	}
}
