package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"
)

// many makes certificates for n names in files, all with one key.
func many(b testing.TB, dir string, n int) {
	ca := newCA("ca")
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	for i := range n {
		c := ca.issueFor(key, nil, fmt.Sprintf("host%d.example", i), fmt.Sprintf("*.host%d.example", i))
		if err := os.WriteFile(fmt.Sprintf("%s/%d", dir, i), append(c.chain, c.key...), 0o600); err != nil {
			b.Fatal(err)
		}
	}
}

func sources(s *Store, dir string, n int) (list []Source) {
	for i := range n {
		list = append(list, &FileSource{Files: s.Files(), Cert: fmt.Sprintf("%s/%d", dir, i)})
	}
	return list
}

// Start with 10 000 certificates, and what they hold in memory.
func BenchmarkLoad10000(b *testing.B) {
	dir := b.TempDir()
	many(b, dir, 10000)
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		start := time.Now()
		store := NewStore(Options{})
		server, err := store.Server(ServerOptions{Name: "x", Certificates: sources(store, dir, 10000)})
		if err != nil || server.Config() == nil {
			b.Fatal(err)
		}
		loaded := time.Since(start)
		start = time.Now()
		store.mu.Lock()
		server.rebuild(time.Now())
		store.mu.Unlock()
		b.ReportMetric(float64(loaded.Milliseconds()), "ms/load")
		b.ReportMetric(float64(time.Since(start).Microseconds())/1000, "ms/rebuild")
		start = time.Now()
		store.watcher = newWatcher(time.Millisecond, time.Hour)
		store.turn(b.Context())
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms/watch")
		start = time.Now()
		store.watcher.look()
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms/poll")
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/10000, "B/cert")
		b.ReportMetric(float64(after.HeapObjects-before.HeapObjects)/10000, "objects/cert")
		_ = store.watcher.fs.Close()
		runtime.KeepAlive(server)
	}
}

func BenchmarkSelect(b *testing.B) {
	for _, n := range []int{1, 10000} {
		dir := b.TempDir()
		many(b, dir, n)
		store := NewStore(Options{})
		list := sources(store, dir, n)
		list = append(list, fake("rsa", newCA("ca").issueFor(rsaKey(), nil, "host0.example")))
		server := must(store.Server(ServerOptions{Name: "x", Certificates: list}))
		config := server.Config()
		for name, q := range map[string]Query{
			"only one": {ServerName: "x.host0.example"}, "ECDSA of two": {ServerName: "host0.example"},
			"RSA of two": {ServerName: "host0.example", NoECDSA: true}, "RSA of two, TLS 1.2": {ServerName: "host0.example", NoECDSA: true, TLS12: true},
			"unknown": {ServerName: "other.example"},
		} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				hello := q.hello()
				b.ReportAllocs()
				for b.Loop() {
					if _, err := config.GetCertificate(hello); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkVerifyResumed(b *testing.B) {
	dir := b.TempDir()
	ca := newCA("ca")
	client := ca.issue(uri("spiffe://x/a"), "client.example")
	for name, data := range map[string][]byte{"ca": ca.pem, "crl": ca.crl(time.Now().Add(time.Hour))} {
		if err := os.WriteFile(dir+"/"+name, data, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	server := must(NewStore(Options{}).Server(ServerOptions{
		Name: "x", Certificates: []Source{&SelfSigned{}}, ClientAuth: ClientRequire,
		Client: Trust{CA: dir + "/ca", CRL: dir + "/crl", SANs: []SANMatcher{{SANURI, MatchPrefix, "spiffe://x/"}}},
	}))
	cert := client.tls()
	_, ss, _, err := handshake(server.Config(), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := server.Config().VerifyConnection(ss); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTicket(b *testing.B) {
	t := NewTickets(0, time.Now())
	k := t.ring.Load().seal
	policy, session := &PolicyID{1}, make([]byte, 150)
	b.Run("seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			k.seal(session, policy)
		}
	})
	ticket := k.seal(session, policy)
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := k.open(ticket, policy); err != nil {
				b.Fatal(err)
			}
		}
	})
	std := &tls.Config{}
	std.SetSessionTicketKeys([][32]byte{random()})
	server := must(NewStore(Options{}).Server(ServerOptions{Name: "x", Certificates: []Source{&SelfSigned{}}}))
	ours, err := server.Config().WrapSession(tls.ConnectionState{}, &tls.SessionState{})
	if err != nil {
		b.Fatal(err)
	}
	theirs := must(std.EncryptTicket(tls.ConnectionState{}, &tls.SessionState{}))
	b.Run("wrap", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			must(server.Config().WrapSession(tls.ConnectionState{}, &tls.SessionState{}))
		}
	})
	b.Run("wrap of crypto tls", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			must(std.EncryptTicket(tls.ConnectionState{}, &tls.SessionState{}))
		}
	})
	b.Run("unwrap", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			must(server.Config().UnwrapSession(ours, tls.ConnectionState{}))
		}
	})
	b.Run("unwrap of crypto tls", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			must(std.DecryptTicket(theirs, tls.ConnectionState{}))
		}
	})
}
