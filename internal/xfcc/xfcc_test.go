package xfcc

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
)

// The leaf and the intermediate of RFC 9440, appendix A.
const (
	rfcLeaf = "MIIBqDCCAU6gAwIBAgIBBzAKBggqhkjOPQQDAjA6MRswGQYDVQQKDBJMZXQncyBB" +
		"dXRoZW50aWNhdGUxGzAZBgNVBAMMEkxBIEludGVybWVkaWF0ZSBDQTAeFw0yMDAx" +
		"MTQyMjU1MzNaFw0yMTAxMjMyMjU1MzNaMA0xCzAJBgNVBAMMAkJDMFkwEwYHKoZI" +
		"zj0CAQYIKoZIzj0DAQcDQgAE8YnXXfaUgmnMtOXU/IncWalRhebrXmckC8vdgJ1p" +
		"5Be5F/3YC8OthxM4+k1M6aEAEFcGzkJiNy6J84y7uzo9M6NyMHAwCQYDVR0TBAIw" +
		"ADAfBgNVHSMEGDAWgBRm3WjLa38lbEYCuiCPct0ZaSED2DAOBgNVHQ8BAf8EBAMC" +
		"BsAwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYDVR0RAQH/BBMwEYEPYmRjQGV4YW1w" +
		"bGUuY29tMAoGCCqGSM49BAMCA0gAMEUCIBHda/r1vaL6G3VliL4/Di6YK0Q6bMje" +
		"SkC3dFCOOB8TAiEAx/kHSB4urmiZ0NX5r5XarmPk0wmuydBVoU4hBVZ1yhk="
	rfcIntermediate = "MIIB5jCCAYugAwIBAgIBFjAKBggqhkjOPQQDAjBWMQswCQYDVQQGEwJVUzEbMBkG" +
		"A1UECgwSTGV0J3MgQXV0aGVudGljYXRlMSowKAYDVQQDDCFMZXQncyBBdXRoZW50" +
		"aWNhdGUgUm9vdCBBdXRob3JpdHkwHhcNMjAwMTE0MjEzMjMwWhcNMzAwMTExMjEz" +
		"MjMwWjA6MRswGQYDVQQKDBJMZXQncyBBdXRoZW50aWNhdGUxGzAZBgNVBAMMEkxB" +
		"IEludGVybWVkaWF0ZSBDQTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJf+aA54" +
		"RC5pyLAR5yfXVYmNpgd+CGUTDp2KOGhc0gK91zxhHesEYkdXkpS2UN8Kati+yHtW" +
		"CV3kkhCngGyv7RqjZjBkMB0GA1UdDgQWBBRm3WjLa38lbEYCuiCPct0ZaSED2DAf" +
		"BgNVHSMEGDAWgBTEA2Q6eecKu9g9yb5glbkhhVINGDASBgNVHRMBAf8ECDAGAQH/" +
		"AgEAMA4GA1UdDwEB/wQEAwIBhjAKBggqhkjOPQQDAgNJADBGAiEA5pLvaFwRRkxo" +
		"mIAtDIwg9D7gC1xzxBl4r28EzmSO1pcCIQCJUShpSXO9HDIQMUgH69fNDEMHXD3R" +
		"RX5gP7kuu2KGMg=="
)

func rfcChain(t testing.TB) (chain []*x509.Certificate) {
	for _, s := range []string{rfcLeaf, rfcIntermediate} {
		der, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	return chain
}

func TestRFC9440(t *testing.T) {
	chain := rfcChain(t)
	if got := ClientCert(chain[0]); got != ":"+rfcLeaf+":" {
		t.Errorf("Client-Cert: %s", got)
	}
	if got := ClientCertChain(chain); got != ":"+rfcIntermediate+":" {
		t.Errorf("Client-Cert-Chain: %s", got)
	}
	if got := ClientCertChain(append(chain, chain[1])); got != ":"+rfcIntermediate+":, :"+rfcIntermediate+":" {
		t.Errorf("Client-Cert-Chain of two: %s", got)
	}
	if got := ClientCertChain(chain[:1]); got != "" {
		t.Errorf("Client-Cert-Chain of none: %s", got)
	}
}

func certificate(t testing.TB, subject pkix.Name, uris, dns []string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: subject, DNSNames: dns, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	for _, s := range uris {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The examples of Envoy's documentation, but for the hash and for the order of
// the subject, which is that of RFC 4514.
func TestElement(t *testing.T) {
	lyft := pkix.Name{Country: []string{"US"}, Province: []string{"CA"}, Locality: []string{"San Francisco"}, OrganizationalUnit: []string{"Lyft"}, CommonName: "Test Client"}
	by := []string{"http://frontend.lyft.com"}
	const testClient = `Subject="CN=Test Client,OU=Lyft,L=San Francisco,ST=CA,C=US"`
	for _, tt := range []struct {
		name      string
		details   Details
		by        []string
		subject   pkix.Name
		uris, dns []string
		want      string // # is the hash
	}{
		{"URI only", Subject | URI, by, lyft, []string{"http://testclient.lyft.com"}, nil,
			"By=http://frontend.lyft.com;Hash=#;" + testClient + ";URI=http://testclient.lyft.com"},
		{"URI and DNS", Subject | URI | DNS, by, lyft, []string{"http://testclient.lyft.com"}, []string{"lyft.com", "www.lyft.com"},
			"By=http://frontend.lyft.com;Hash=#;" + testClient + ";URI=http://testclient.lyft.com;DNS=lyft.com;DNS=www.lyft.com"},
		{"no details", 0, by, lyft, nil, nil, "By=http://frontend.lyft.com;Hash=#"},
		{"no By", 0, nil, lyft, nil, nil, "Hash=#"},
		{"two By", 0, []string{"spiffe://a", "spiffe://b"}, lyft, nil, nil, "By=spiffe://a;By=spiffe://b;Hash=#"},
		{"no URI", URI | DNS, nil, lyft, nil, nil, "Hash=#;URI="},
		{"signs of the grammar", URI, nil, lyft, []string{"x://a/b;c,d=e"}, nil, `Hash=#;URI="x://a/b;c,d=e"`},
		{"quotes in a URI", URI, nil, lyft, []string{`x://a/?q=",By=x\`}, nil, `Hash=#;URI="x://a/?q=%22,By=x%5C"`},
		{"empty subject", Subject, nil, pkix.Name{}, nil, nil, `Hash=#;Subject=""`},
		{"comma in a subject", Subject, nil, pkix.Name{CommonName: "a,b+c;d=e"}, nil, nil, `Hash=#;Subject="CN=a\,b\+c\;d=e"`},
		{"quotes in a subject", Subject, nil, pkix.Name{CommonName: `a";URI=x`}, nil, nil, `Hash=#;Subject="CN=a\22\;URI=x"`},
		{"backslash last", Subject, nil, pkix.Name{CommonName: `a\`}, nil, nil, `Hash=#;Subject="CN=a\5C"`},
		{"backslash and quote", Subject, nil, pkix.Name{CommonName: `a\"b`}, nil, nil, `Hash=#;Subject="CN=a\5C\22b"`},
		{"line break", Subject, nil, pkix.Name{CommonName: "a\r\nx: y"}, nil, nil, `Hash=#;Subject="CN=a\0D\0Ax: y"`},
		{"UTF-8", Subject, nil, pkix.Name{CommonName: "é"}, nil, nil, `Hash=#;Subject="CN=\C3\A9"`},
		{"space last", Subject, nil, pkix.Name{CommonName: "a "}, nil, nil, `Hash=#;Subject="CN=a\20"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := certificate(t, tt.subject, tt.uris, tt.dns)
			got := Element(tt.details, tt.by, []*x509.Certificate{c})
			hash, _, _ := strings.Cut(got[strings.Index(got, "Hash=")+5:], ";")
			if len(hash) != 64 {
				t.Errorf("hash %q", hash)
			}
			if got = strings.Replace(got, hash, "#", 1); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if !closed([]byte(got)) || strings.ContainsAny(got, "\r\n") {
				t.Errorf("%q can be read otherwise", got)
			}
		})
	}
}

func TestElementCert(t *testing.T) {
	chain := rfcChain(t)
	got := Element(Cert|Chain, nil, chain)
	_, rest, _ := strings.Cut(got, `Cert="`)
	cert, rest, _ := strings.Cut(rest, `";Chain="`)
	both := strings.TrimSuffix(rest, `"`)
	for encoded, want := range map[string]int{cert: 1, both: 2} {
		text, err := url.PathUnescape(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(encoded, "\n +/=,;\"") {
			t.Errorf("not encoded: %s", encoded)
		}
		for i := range want {
			block, more := pem.Decode([]byte(text))
			if block == nil || string(block.Bytes) != string(chain[i].Raw) {
				t.Errorf("certificate %d is not there", i)
			}
			text = string(more)
		}
	}
}

func TestModes(t *testing.T) {
	const old, element = "By=a;Hash=b", "Hash=c"
	for _, tt := range []struct {
		mode         Mode
		old, element string
		want         string
	}{
		{Sanitize, old, element, ""},
		{Sanitize, old, "", ""},
		{ForwardOnly, old, element, old},
		{ForwardOnly, "", element, ""},
		{ForwardOnly, old, "", ""},
		{AppendForward, old, element, old + "," + element},
		{AppendForward, "", element, element},
		{AppendForward, old, "", ""},
		{AppendForward, `Subject="a`, element, element},      // would swallow ours
		{AppendForward, `Subject="a\"`, element, element},    // likewise
		{AppendForward, `Subject="a\\\\"`, element, element}, // for one kind of reader
		{AppendForward, `Subject="a,b"`, element, `Subject="a,b",` + element},
		{AppendForward, `Subject="a\"b"`, element, `Subject="a\"b",` + element},
		{SanitizeSet, old, element, element},
		{SanitizeSet, "", element, element},
		{SanitizeSet, old, "", ""},
		{AlwaysForwardOnly, old, element, old},
		{AlwaysForwardOnly, old, "", old},
		{AlwaysForwardOnly, "", "", ""},
	} {
		if got := tt.mode.Value([]byte(tt.old), []byte(tt.element)); string(got) != tt.want {
			t.Errorf("%s of %q and %q: %q", tt.mode, tt.old, tt.element, got)
		}
	}
}

func TestNames(t *testing.T) {
	for m := Sanitize; m <= AlwaysForwardOnly; m++ {
		if got, ok := ParseMode(m.String()); !ok || got != m {
			t.Errorf("%s is %v", m, got)
		}
	}
	if _, ok := ParseMode("x"); ok {
		t.Error("a mode x")
	}
	if d, ok := ParseDetail("uri"); !ok || d != URI {
		t.Errorf("uri is %v", d)
	}
}

func TestConnAllocatesOnce(t *testing.T) {
	o := &Options{Mode: AppendForward, Details: Subject | URI, ClientCert: true, ClientCertChain: true}
	c := NewConn(o, []string{"spiffe://us"}, rfcChain(t))
	const came = "By=a;Hash=b"
	room := make([]byte, 0, 4<<10)
	use := func() {
		if v := c.Value(append(room[:0], came...)); !bytes.HasPrefix(v, []byte(came+",By=spiffe://us;Hash=")) {
			t.Errorf("%q", v)
		}
		if len(c.ClientCert()) == 0 || len(c.ClientCertChain()) == 0 {
			t.Error("no RFC 9440 header")
		}
	}
	use()
	if n := testing.AllocsPerRun(100, use); n != 0 {
		t.Errorf("%v allocations for each request", n)
	}
	only := NewConn(&Options{Mode: ForwardOnly}, nil, rfcChain(t))
	if v := only.Value([]byte(came)); string(v) != came || len(only.ClientCert()) > 0 {
		t.Errorf("forward_only: %q", v)
	}
}

func FuzzSubject(f *testing.F) {
	f.Add(`CN=a\"`)
	f.Add(`\`)
	f.Fuzz(func(t *testing.T, s string) {
		got := `k="` + subject(pkix.Name{CommonName: s}.String()) + `"`
		if strings.Count(got, `"`) != 2 || strings.Contains(got, `\"`) || !closed([]byte(got)) {
			t.Errorf("%q gives %q", s, got)
		}
		for i := range len(got) {
			if got[i] < ' ' || got[i] > '~' {
				t.Errorf("%q gives %q", s, got)
			}
		}
	})
}
