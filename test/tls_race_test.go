package test

import (
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"belay/test/harness"
)

// Handshakes, resumptions and requests on both workers while certificates, lists,
// staples and the secret of the tickets change under them: nobody who is good is
// refused, and the race detector has nothing to say.
func TestTLSChangesUnderLoad(t *testing.T) {
	t.Parallel()
	a := harness.NewAuthority(t)
	issue := func() harness.Certificate {
		return a.Issue(harness.Leaf{Name: "server", DNS: []string{"a.example"}}).Above(t, a)
	}
	server, rsa := issue(), a.Issue(harness.Leaf{Name: "rsa", DNS: []string{"a.example"}, RSA: true})
	staple, _ := a.Staple(server, false, time.Hour)
	good, bad := a.Issue(harness.Leaf{Name: "good"}), a.Issue(harness.Leaf{Name: "bad"})
	crl := a.Revoke(bad)
	secret := harness.WriteFile(t, harness.TempDir(t), "secret", "a secret that is long enough for this: 0")
	s := &site{
		tables: fmt.Sprintf("[listener.web.tls]\ncertificates = [{ cert = %q, key = %q, ocsp = %q }, %s]\n[listener.web.tls.client_certificate]\nmode = \"request\"\nca = %q\ncrl = %q\n",
			server.CertFile, server.KeyFile, staple, pairOf(rsa), a.File, crl),
		endpoints: []string{harness.NewEcho(t, "a").Addr}, more: fmt.Sprintf("[server]\nworkers = 2\n[server.tls]\nticket_secret = %q\n", secret),
	}
	d := serve(t, s, harness.Options{Race: true, Errors: true})
	stop := make(chan struct{})
	began := time.Now()
	var requests, resumed, refused atomic.Int64
	var wg sync.WaitGroup
	client := func(cfg *tls.Config, welcome bool) {
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		for {
			select {
			case <-stop:
				return
			default:
			}
			c, err := tlsDial(s.addr, cfg)
			if err == nil {
				var r *harness.Reply
				if r, err = harness.Wrap(t, c).Send(harness.Request("GET", "/", "a.example")).TryReply("GET"); err == nil && r.Status != 200 {
					t.Errorf("status %d", r.Status)
				}
				if c.ConnectionState().DidResume {
					resumed.Add(1)
				}
				_ = c.Close()
			}
			switch {
			case (err == nil) != welcome:
				t.Errorf("a client that is welcome %t: %v", welcome, err)
				return
			case err != nil:
				refused.Add(1)
			default:
				requests.Add(1)
			}
		}
	}
	for i := range 4 {
		cfg := names(a, "a.example")
		if i%2 == 1 {
			cfg = shows(a, good, "a.example")
		}
		cfg.MaxVersion = [...]uint16{tls.VersionTLS12, tls.VersionTLS13}[i/2]
		wg.Go(func() { client(cfg, true) })
	}
	old := shows(a, bad, "a.example")
	old.MaxVersion = tls.VersionTLS12 // whose client hears of it before it sends
	wg.Go(func() { client(old, false) })
	loaded := func() int { return d.CountLines("certificate loaded") }
	for i := range 8 {
		n := loaded()
		next := issue()
		a.Staple(next, false, time.Hour)
		a.Revoke(bad)
		harness.CopyFile(t, harness.WriteFile(t, d.Dir, "secret", fmt.Sprint("a secret that is long enough for this: ", i)), secret)
		harness.Eventually(t, patience, "the next certificate", func() bool { return loaded() > n })
	}
	close(stop)
	wg.Wait()
	t.Logf("%d requests, %d connections resumed, %d refused in %v", requests.Load(), resumed.Load(), refused.Load(), time.Since(began).Round(time.Millisecond))
	if requests.Load() == 0 || resumed.Load() == 0 || refused.Load() == 0 {
		t.Error("something did not happen at all")
	}
}
