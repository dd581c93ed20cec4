package tcpproxy

import (
	"net/netip"
	"testing"

	"belay/internal/accesslog"
	"belay/internal/cluster"
	"belay/internal/config"
	"belay/internal/stats"
)

// A terminal part ends the hash, as it does for HTTP.
func TestHashEndsWithTerminal(t *testing.T) {
	cfg := &config.Cluster{Name: "back", Balance: "maglev", Hash: config.Hash{TableSize: 101, On: []config.HashOn{{SNI: true, Terminal: true}, {Source: true}}}}
	x := &Cluster{Cluster: cluster.New(cfg)}
	if err := x.Pin(nil, stats.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	hash := func(name, peer string) uint64 {
		c := &conn{cl: &clusterWorker{shared: x}, peer: netip.AddrPortFrom(netip.MustParseAddr(peer), 1)}
		if name != "" {
			c.said = &accesslog.TLS{ServerName: name}
		}
		h := c.hint()
		if !h.Hashed {
			t.Errorf("%q from %s is not hashed", name, peer)
		}
		return h.Hash
	}
	if hash("a.example", "10.0.0.1") != hash("a.example", "10.0.0.2") {
		t.Error("the source decides though the name is terminal")
	}
	if hash("", "10.0.0.1") == hash("", "10.0.0.2") {
		t.Error("without a name the source does not decide")
	}
}
