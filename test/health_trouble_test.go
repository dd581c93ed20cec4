package test

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"

	"belay/test/harness"
)

// Checks speak the cluster's TLS: what requests would fail for takes the endpoint out
// before there are some.
func TestHealthCheckOverTLS(t *testing.T) {
	t.Parallel()
	a, stranger := harness.NewAuthority(t), harness.NewAuthority(t)
	server := a.Issue(harness.Leaf{Name: "server", DNS: []string{"a.example"}})
	client, other := a.Issue(harness.Leaf{Name: "client"}), stranger.Issue(harness.Leaf{Name: "client"})
	addr, _, _ := tlsEcho(t, &tls.Config{Certificates: []tls.Certificate{server.Certificate}})
	strict, _, _ := tlsEcho(t, &tls.Config{Certificates: []tls.Certificate{server.Certificate}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool()})
	ca := fmt.Sprintf("ca = %q\n", a.File)
	show := func(c harness.Certificate) string {
		return ca + fmt.Sprintf("sni = \"a.example\"\ncert = %q\nkey = %q\n", c.CertFile, c.KeyFile)
	}
	for _, tt := range []struct {
		name, addr, check, keys string
		why                     string // "": healthy
	}{
		{"fixed name", addr, `type = "http"`, ca + `sni = "a.example"`, ""},
		{"body", addr, `type = "http", body = "^sni=a.example client=nobody"`, ca + `sni = "a.example"`, ""},
		{"name of the check", addr, `type = "http", host = "a.example:8443"`, ca, ""},
		{"name of the check, no more than TLS", addr, `type = "tls", host = "a.example"`, ca, ""},
		{"another name of the check", addr, `type = "http", host = "b.example"`, ca, "b.example"},
		{"the endpoint's name", addr, `type = "tls"`, ca, "IP SANs"},
		{"no verification", addr, `type = "http"`, "verify = false", ""},
		{"no name sent", addr, `type = "http", host = "b.example", body = "^sni= "`, ca + "sni = \"none\"\nsan = [{ type = \"dns\", exact = \"a.example\" }]", ""},
		{"another authority", addr, `type = "tls"`, fmt.Sprintf("ca = %q\nsni = \"a.example\"", stranger.File), "unknown authority"},
		{"client certificate", strict, `type = "http", body = "client=client"`, show(client), ""},
		{"client certificate, no more than TLS", strict, `type = "tls"`, show(client), ""},
		{"client certificate of a stranger", strict, `type = "http"`, show(other), "tls: "},
		{"client certificate of a stranger, no more than TLS", strict, `type = "tls"`, show(other), "tls: "},
		{"no client certificate", strict, `type = "tls"`, ca + `sni = "a.example"`, "tls: "},
		{"TCP", strict, `type = "tcp"`, ca, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &site{endpoints: []string{tt.addr}, cluster: "health_check = { " + tt.check + ", interval = \"200ms\" }\n[cluster.back.tls]\n" + tt.keys + "\n"}
			d := serve(t, s)
			var e wardState
			harness.Eventually(t, patience, "a finding", func() bool {
				e = endpointStates(t, d, "back")["e0"]
				return e.Health != "" && e.Health != "unknown"
			})
			switch {
			case tt.why == "" && (e.State != "healthy" || e.Why != ""):
				t.Errorf("%+v, want it healthy", e)
			case tt.why != "" && (e.State != "unhealthy" || !strings.Contains(e.Why, tt.why)):
				t.Errorf("%+v, want it unhealthy for %q", e, tt.why)
			}
		})
	}
}

// An endpoint that was ejected stays out over a hot restart.
func TestEjectionOverHotRestart(t *testing.T) {
	t.Parallel()
	c := newClinic(t, 3)
	c.cluster = "outlier = { consecutive = 3, ejection_time = \"1h\", max_ejection_time = \"2h\", interval = \"100ms\" }\n"
	c.open()
	c.patients[1].answer.Store(500)
	c.spread(12)
	c.becomes("p1", "unhealthy")
	c.patients[1].answer.Store(200)
	asked := c.patients[1].asked.Load()
	c.d.HotRestart()
	if e := endpointStates(t, c.d, "back")["p1"]; e.State != "unhealthy" || e.Why != "3 errors in a row" {
		t.Errorf("after the restart: %+v", e)
	}
	c.only("p0", "p2")
	if n := c.patients[1].asked.Load(); n != asked {
		t.Errorf("%d requests for p1", n-asked)
	}
}

// Endpoints that are silent, more of them than checks begin at a time, delay no finding
// about another cluster's.
func TestSilentEndpointsDelayNoChecks(t *testing.T) {
	t.Parallel()
	silent := harness.NewBackend(t, harness.Silent)
	var list []string
	for i := range 200 {
		list = append(list, fmt.Sprintf("{ id = \"s%d\", address = %q }", i, silent.Addr))
	}
	c := newClinic(t, 2)
	c.cluster = fastChecks + fmt.Sprintf("[cluster.silent]\nendpoints = [%s]\nhealth_check = { timeout = \"10m\", interval = \"100ms\" }\n", strings.Join(list, ", "))
	c.open()
	c.patients[0].health.Store(500)
	c.becomes("p0", "unhealthy")
	harness.Eventually(t, patience, "all the silent ones to be asked", func() bool { return silent.Open() == 200 })
	c.patients[0].health.Store(200)
	c.becomes("p0", "healthy")
}
