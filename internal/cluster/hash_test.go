package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"belay/internal/config"
	"belay/internal/eventloop"
)

// placing makes a cluster that hashes, of endpoints with these weights in an order
// that the seed shuffles.
func placing(balance string, seed uint64, weights ...int) *Cluster {
	c := &config.Cluster{Name: "test", Balance: balance, Hash: config.Hash{TableSize: 65537}}
	if balance == "ring_hash" {
		c.Hash.TableSize = 512
	}
	for i, w := range weights {
		c.Endpoints = append(c.Endpoints, config.Endpoint{ID: fmt.Sprint("server-", i), Host: "192.0.2.1", Port: 1, Weight: w})
	}
	if seed != 0 {
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(c.Endpoints), func(i, j int) {
			c.Endpoints[i], c.Endpoints[j] = c.Endpoints[j], c.Endpoints[i]
		})
	}
	return New(c)
}

// places are the ids that hashes 0 … n-1, well mixed, go to.
func places(c *Cluster, n int) []string {
	p := c.NewPicker(0, 1)
	list := make([]string, n)
	for i := range list {
		if e := p.Pick(Hint{Hash: mix(uint64(i), 12345), Hashed: true}); e != nil {
			list[i] = e.ID
		}
	}
	return list
}

func (c *Cluster) named(id string) *Endpoint {
	for _, e := range c.Endpoints {
		if e.ID == id {
			return e
		}
	}
	return nil
}

// excess is the share of hashes that moved though their endpoint is still there.
func excess(before, after []string, gone ...string) float64 {
	n := 0
	for i := range before {
		if before[i] != after[i] && !slices.Contains(gone, before[i]) {
			n++
		}
	}
	return float64(n) / float64(len(before))
}

// peak is the largest load of an endpoint over what its weight asks for.
func peak(c *Cluster, list []string) float64 {
	got := make(map[string]float64)
	for _, id := range list {
		got[id]++
	}
	total := 0.0
	for _, e := range c.Endpoints {
		total += float64(e.Weight)
	}
	worst := 0.0
	for _, e := range c.Endpoints {
		worst = max(worst, got[e.ID]*total/float64(e.Weight)/float64(len(list)))
	}
	return worst
}

func weights(n int, w ...int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = w[i%len(w)]
	}
	return list
}

var hashes = []string{"ring_hash", "maglev"}

// TestHashFigures prints what the documentation tells, and holds it.
func TestHashFigures(t *testing.T) {
	for _, balance := range hashes {
		for _, n := range []int{10, 100} {
			for _, w := range [][]int{{1}, {1, 2, 5}} {
				keys := 10000 * n
				if testing.Short() {
					keys /= 10
				}
				c := placing(balance, 0, weights(n, w...)...)
				before := places(c, keys)
				load := peak(c, before)
				c.Endpoints[3].SetHealth(HealthBad, "")
				down := excess(before, places(c, keys), "server-3")
				fewer := placing(balance, 0, weights(n, w...)[:n-1]...)
				removed := excess(before, places(fewer, keys), fmt.Sprint("server-", n-1))
				t.Logf("%-9s N=%-3d weights %v: peak/mean %.3f, excess when one is down %.4f, when one is removed %.4f", balance, n, w, load, down, removed)
				if load > 1.05 || down != 0 || balance == "ring_hash" && removed != 0 || removed > 0.02 {
					t.Errorf("%s N=%d %v: beyond the bounds", balance, n, w)
				}
			}
		}
	}
}

// Whatever goes and comes, a hash whose endpoint is there stays on it, and all are as
// they were when all are back.
func TestHashMovesOnlyWhatMust(t *testing.T) {
	const keys = 20000
	for _, balance := range hashes {
		c := placing(balance, 0, weights(12, 1, 3)...)
		all := places(c, keys)
		rng := rand.New(rand.NewPCG(7, 7))
		last, down := all, map[string]bool{}
		for range 30 {
			e := c.Endpoints[rng.IntN(len(c.Endpoints))]
			down[e.ID] = !down[e.ID]
			h := HealthGood
			if down[e.ID] {
				h = HealthBad
			}
			e.SetHealth(h, "")
			now := places(c, keys)
			for i := range now {
				switch {
				case len(down) < 12 && now[i] == "" || down[now[i]]:
					t.Fatalf("%s: hash %d is on %q, which is down", balance, i, now[i])
				case now[i] != last[i] && last[i] != e.ID && now[i] != e.ID:
					t.Fatalf("%s: hash %d went from %s to %s though only %s changed", balance, i, last[i], now[i], e.ID)
				}
			}
			last = now
		}
		for _, e := range c.Endpoints {
			e.SetHealth(HealthGood, "")
		}
		if !slices.Equal(places(c, keys), all) {
			t.Errorf("%s: not as it was when all are back", balance)
		}
	}
}

// Two belays agree, in whatever order they list the endpoints and wherever those are.
func TestHashAgrees(t *testing.T) {
	for _, balance := range hashes {
		a, b := placing(balance, 0, weights(9, 1, 2)...), placing(balance, 5, weights(9, 1, 2)...)
		for _, e := range b.Endpoints {
			w := a.named(e.ID).Weight
			if e.Weight != w {
				t.Fatalf("the test's weights differ")
			}
			e.setAddresses([]eventloop.Address{{Unix: "/elsewhere"}})
		}
		if !slices.Equal(places(a, 10000), places(b, 10000)) {
			t.Errorf("%s: the order of endpoints moves hashes", balance)
		}
	}
}

func TestHashEdges(t *testing.T) {
	for _, balance := range hashes {
		if p := placing(balance, 0).NewPicker(0, 1); p.Pick(Hint{Hashed: true}) != nil {
			t.Errorf("%s: an endpoint of none", balance)
		}
		if p := placing(balance, 0, 0, 0).NewPicker(0, 1); p.Pick(Hint{Hashed: true}) != nil {
			t.Errorf("%s: an endpoint of weight 0", balance)
		}
		c := placing(balance, 0, 1, 1)
		p := c.NewPicker(0, 1)
		for hash := range uint64(50) {
			h := Hint{Hash: mix(hash, 1), Hashed: true}
			e := p.Pick(h)
			h.Avoid = e
			if other := p.Pick(h); other == nil || other == e {
				t.Fatalf("%s: avoiding %v gave %v", balance, e, other)
			}
		}
		c.Endpoints[0].SetAdmin(Disable, c.now())
		if e := p.Pick(Hint{Hashed: true, Avoid: c.Endpoints[1]}); e != c.Endpoints[1] {
			t.Errorf("%s: the only one left is to be avoided, got %v", balance, e)
		}
		c.Endpoints[1].SetAdmin(Disable, c.now())
		if e := p.Pick(Hint{Hashed: true}); e != nil {
			t.Errorf("%s: %s though all are disabled", balance, e.ID)
		}
	}
}

// With max_load no endpoint has more than its part allows, however uneven the keys.
func TestHashBoundedLoad(t *testing.T) {
	for _, balance := range hashes {
		c := placing(balance, 0, weights(10, 1)...)
		c.Config.Hash.MaxLoad = 1.25
		p := c.NewPicker(0, 1)
		same := Hint{Hash: 42, Hashed: true}
		for n := 1; n <= 1000; n++ {
			e := p.Pick(same)
			p.Begin(e)
			if limit := int(1.25*float64(n)/10) + 1; p.Active(e) > limit {
				t.Fatalf("%s: %s has %d of %d, more than %d", balance, e.ID, p.Active(e), n, limit)
			}
		}
		for _, e := range c.Endpoints {
			for p.Active(e) > 0 {
				p.End(e)
			}
		}
		c.Config.Hash.MaxLoad = 0
		home := p.Pick(same)
		c.Config.Hash.MaxLoad = 1.25
		if e := p.Pick(same); e != home {
			t.Errorf("%s: %s with nothing under way, want %s", balance, e.ID, home.ID)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	for _, balance := range hashes {
		for _, n := range []int{10, 100} {
			for _, bound := range []float64{0, 1.25} {
				b.Run(fmt.Sprintf("%s/N=%d/max_load=%g", balance, n, bound), func(b *testing.B) {
					c := placing(balance, 0, weights(n, 1)...)
					c.Config.Hash.MaxLoad = bound
					p := c.NewPicker(0, 1)
					b.ReportAllocs()
					i := uint64(0)
					for b.Loop() {
						i++
						p.Pick(Hint{Hash: mix(i, 0), Hashed: true})
					}
				})
			}
		}
	}
}
