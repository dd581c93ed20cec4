package cluster

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"belay/internal/config"
	"belay/internal/eventloop"
)

// weighted makes a cluster of endpoints a, b, c … with these weights; all have
// an address.
func weighted(balance string, weights ...int) *Cluster {
	c := &config.Cluster{Name: "test", Balance: balance}
	for i, w := range weights {
		id := fmt.Sprint(i)
		if i < 26 {
			id = string(rune('a' + i))
		}
		c.Endpoints = append(c.Endpoints, config.Endpoint{ID: id, Host: "192.0.2.1", Port: uint16(i + 1), Weight: w})
	}
	return New(c)
}

// even is n endpoints of weight 1.
func even(balance string, n int) *Cluster { return weighted(balance, slices.Repeat([]int{1}, n)...) }

// uneven is n endpoints with weights from 1 to 5.
func uneven(balance string, n int) *Cluster {
	w := make([]int, n)
	for i := range w {
		w[i] = 1 + i%5
	}
	return weighted(balance, w...)
}

// lose takes an endpoint's addresses, as if its name had never been resolved.
func lose(c *Cluster, ids string) *Cluster {
	for _, e := range c.Endpoints {
		if strings.Contains(ids, e.ID) {
			e.setAddresses(nil)
		}
	}
	return c
}

func picks(p *Picker, n int, h Hint) string {
	var s strings.Builder
	for range n {
		if e := p.Pick(h); e != nil {
			s.WriteString(e.ID)
		} else {
			s.WriteByte('-')
		}
	}
	return s.String()
}

func TestPickerRoundRobinSequence(t *testing.T) {
	for _, tt := range []struct {
		name    string
		weights []int
		lost    string
		worker  int
		want    string
	}{
		{"OK equal", []int{1, 1, 1}, "", 0, "abcabcabc"},
		{"OK equal, not 1", []int{7, 7, 7}, "", 0, "abcabcabc"},
		{"OK second worker", []int{1, 1, 1}, "", 1, "bcabcabca"},
		{"OK more workers than endpoints", []int{1, 1, 1}, "", 5, "cabcabcab"},
		{"OK nginx's example", []int{5, 1, 1}, "", 0, "aabacaaaabacaa"},
		{"OK nginx's example, worker 2", []int{5, 1, 1}, "", 2, "bacaaaabacaaaa"},
		{"OK weights", []int{1, 2, 3}, "", 0, "cbacbccbacbc"},
		{"OK weight 0", []int{1, 0, 1}, "", 0, "acacac"},
		{"OK weight 0 among others", []int{2, 0, 1}, "", 0, "acaaca"},
		{"OK one", []int{3}, "", 4, "aaa"},
		{"OK one lost", []int{1, 1, 1}, "b", 0, "acacac"},
		{"OK one lost among others", []int{5, 1, 1}, "b", 0, "aaacaaaaacaa"},
		{"none, weight 0", []int{0, 0}, "", 1, "--"},
		{"none, lost", []int{1, 2}, "ab", 0, "--"},
		{"none, empty", nil, "", 3, "--"},
	} {
		p := lose(weighted("round_robin", tt.weights...), tt.lost).NewPicker(tt.worker, 1)
		if got := picks(p, len(tt.want), Hint{}); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// Both ways to go round are one: rotate is smooth for equal weights.
func TestPickerRotateIsSmooth(t *testing.T) {
	for worker := range 7 {
		c := weighted("round_robin", 2, 2, 0, 2, 2)
		d := weighted("round_robin", 2, 2, 0, 2, 2)
		d.current.Load().equal = false
		fast, slow := c.NewPicker(0, 1), d.NewPicker(0, 1)
		for range worker {
			fast.Pick(Hint{})
			slow.Pick(Hint{})
		}
		if a, b := picks(fast, 40, Hint{}), picks(slow, 40, Hint{}); a != b {
			t.Errorf("after %d: %s, smooth %s", worker, a, b)
		}
	}
}

// Workers begin at different endpoints though no name has been resolved yet.
func TestPickerStartDoesNotNeedAddresses(t *testing.T) {
	for _, weights := range [][]int{{1, 1, 1}, {2, 1, 1}} {
		c := weighted("round_robin", weights...)
		want := c.NewPicker(1, 1).Pick(Hint{})
		lose(c, "abc")
		p := c.NewPicker(1, 1)
		for _, e := range c.Endpoints {
			e.setAddresses([]eventloop.Address{{Unix: "/x"}})
		}
		if got := p.Pick(Hint{}); got != want {
			t.Errorf("%v: begins with %s, want %s", weights, got.ID, want.ID)
		}
	}
}

var balances = []string{"round_robin", "least_request", "random"}

func TestPickerHints(t *testing.T) {
	for _, tt := range []struct {
		name          string
		weights       []int
		lost          string
		pinned, avoid int // -1: none
		want          string
	}{
		{"OK pinned", []int{1, 1, 1}, "", 1, -1, "b"},
		{"OK pinned, weight 0", []int{1, 0, 1}, "", 1, -1, "b"},
		{"OK pinned, all others lost", []int{1, 0}, "a", 1, -1, "b"},
		{"OK pinned is lost", []int{1, 1, 1}, "b", 1, -1, "ac"},
		{"OK pinned has just failed", []int{1, 1, 1}, "", 1, 1, "ac"},
		{"OK pinned has failed, no other", []int{1, 1}, "a", 1, 1, "b"},
		{"OK pinned of weight 0 has failed, no other", []int{1, 0}, "a", 1, 1, "b"},
		{"OK pinned and another to avoid", []int{1, 1, 1}, "", 1, 0, "b"},
		{"OK avoid", []int{1, 1, 1}, "", -1, 0, "bc"},
		{"OK avoid the heaviest", []int{10_000, 1, 1}, "", -1, 0, "bc"},
		{"OK avoid, one left", []int{10_000, 1, 1}, "b", -1, 0, "c"},
		{"OK avoid, only weight 0 left", []int{1, 0}, "", -1, 0, "a"},
		{"OK avoid, none left", []int{1, 1}, "b", -1, 0, "a"},
		{"none, avoided is lost too", []int{1, 1}, "ab", -1, 0, "-"},
		{"none, avoided has weight 0", []int{0, 1}, "b", -1, 0, "-"},
		{"none, pinned is lost", []int{0, 1}, "ab", 0, -1, "-"},
	} {
		for _, unequal := range []bool{false, true} {
			for _, balance := range balances {
				weights := slices.Clone(tt.weights)
				if last := len(weights) - 1; unequal && weights[last] > 0 {
					weights[last] = 3
				}
				c := lose(weighted(balance, weights...), tt.lost)
				at := func(i int) *Endpoint {
					if i < 0 {
						return nil
					}
					return c.Endpoints[i]
				}
				got := picks(c.NewPicker(1, 7), 200, Hint{Pinned: at(tt.pinned), Avoid: at(tt.avoid)})
				for _, id := range tt.want {
					if !strings.ContainsRune(got, id) {
						t.Errorf("%s, %s %v: %c never picked", tt.name, balance, weights, id)
					}
				}
				if other := strings.Trim(got, tt.want); other != "" {
					t.Errorf("%s, %s %v: picked %q, want %s", tt.name, balance, weights, other[:1], tt.want)
				}
			}
		}
	}
}

// shares checks what each endpoint got of n picks against its weight.
func shares(t *testing.T, name string, c *Cluster, n int, pick func() *Endpoint) {
	t.Helper()
	got := make([]int, len(c.Endpoints))
	total := 0
	for _, e := range c.Endpoints {
		if c.current.Load().in[e.Index] {
			total += e.Weight
		}
	}
	for range n {
		got[pick().Index]++
	}
	for i, e := range c.Endpoints {
		want := 0.0
		if c.current.Load().in[e.Index] {
			want = float64(n*e.Weight) / float64(total)
		}
		if math.Abs(float64(got[i])-want) > 5*math.Sqrt(want) { // 5 sigma
			t.Errorf("%s: %s got %d, want %.0f", name, e.ID, got[i], want)
		}
	}
}

func TestPickerSharesFollowWeights(t *testing.T) {
	for _, tt := range []struct {
		name    string
		weights []int
		lost    string
	}{
		{"equal", []int{1, 1, 1, 1}, ""},
		{"weights", []int{10, 0, 3, 1}, ""},
		{"most is lost", []int{1000, 3, 2, 1000, 1}, "ad"}, // draw's first tries fail
	} {
		for _, balance := range balances {
			c := lose(weighted(balance, tt.weights...), tt.lost)
			p := c.NewPicker(0, 42)
			shares(t, tt.name+" "+balance, c, 50_000, func() *Endpoint { return p.Pick(Hint{}) })
		}
	}
}

func TestPickerLeastRequestPrefersTheLessLoaded(t *testing.T) {
	c := even("least_request", 4)
	p := c.NewPicker(0, 3)
	for _, e := range c.Endpoints[:3] {
		for range 10 {
			p.Begin(e)
		}
	}
	if got := strings.Count(picks(p, 10_000, Hint{}), "d"); got < 4000 { // two of four: 43 %
		t.Errorf("the idle one got %d of 10000", got)
	}

	// Requests that never end leave all with the same load per weight.
	c = weighted("least_request", 1, 2, 4, 1)
	p = c.NewPicker(0, 3)
	for range 8000 {
		p.Begin(p.Pick(Hint{}))
	}
	for _, e := range c.Endpoints {
		if got := p.Active(e); math.Abs(float64(got-1000*e.Weight)) > 20 {
			t.Errorf("%s: %d under way, want %d", e.ID, got, 1000*e.Weight)
		}
	}
	for _, e := range c.Endpoints {
		for p.Active(e) > 0 {
			p.End(e)
		}
	}
	shares(t, "idle again", c, 20_000, func() *Endpoint { return p.Pick(Hint{}) })
}

func TestPickerWorkersDiffer(t *testing.T) {
	c := even("random", 10)
	a, b, again := c.NewPicker(0, 1), c.NewPicker(1, 1), c.NewPicker(0, 1)
	x, y, z := picks(a, 100, Hint{}), picks(b, 100, Hint{}), picks(again, 100, Hint{})
	if x == y || x != z {
		t.Errorf("worker 0 %s, again %s, worker 1 %s", x, z, y)
	}
}

func TestPickerDoesNotAllocate(t *testing.T) {
	for _, balance := range balances {
		for _, c := range []*Cluster{even(balance, 10), lose(uneven(balance, 10), "bcdefgh")} {
			p := c.NewPicker(0, 1)
			h := Hint{Avoid: c.Endpoints[0]}
			if n := testing.AllocsPerRun(1000, func() {
				e := p.Pick(h)
				p.Begin(e)
				h.Avoid = p.Pick(Hint{})
				p.End(e)
			}); n != 0 {
				t.Errorf("%s: %v allocations", balance, n)
			}
		}
	}
}

func TestSplit(t *testing.T) {
	for _, weights := range [][]int{{1}, {1, 1}, {90, 9, 1}, {0, 5, 0, 5, 0}} {
		var list []config.WeightedCluster
		total := 0
		for _, w := range weights {
			list = append(list, config.WeightedCluster{Weight: w})
			total += w
		}
		s := NewSplit(list)
		got := make([]int, len(weights))
		for i := range 1000 * total {
			got[s.Pick(uint64(i))]++
		}
		for i, w := range weights {
			if got[i] != 1000*w {
				t.Errorf("%v: %d got %d", weights, i, got[i])
			}
		}
		clear(got)
		const n = 50_000
		rng := rand.New(rand.NewPCG(1, 2))
		for range n {
			got[s.Pick(rng.Uint64())]++
		}
		for i, w := range weights {
			if want := float64(n*w) / float64(total); math.Abs(float64(got[i])-want) > 5*math.Sqrt(want) {
				t.Errorf("%v: at random %d got %d, want %.0f", weights, i, got[i], want)
			}
		}
		if n := testing.AllocsPerRun(100, func() { s.Pick(12345) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// thousand is the configuration of 1000 clusters with 10 endpoints.
func thousand() []*config.Cluster {
	list := make([]*config.Cluster, 1000)
	for i := range list {
		list[i] = even("round_robin", 10).Config
	}
	return list
}

func BenchmarkNewThousandClusters(b *testing.B) {
	list := thousand()
	b.ReportAllocs()
	for b.Loop() {
		for _, c := range list {
			New(c)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for _, balance := range balances {
		for _, n := range []int{3, 10, 1000} {
			for name, c := range map[string]*Cluster{"equal": even(balance, n), "weights": uneven(balance, n)} {
				b.Run(fmt.Sprintf("%s/%s/%d", balance, name, n), func(b *testing.B) {
					p := c.NewPicker(0, 1)
					b.ReportAllocs()
					for b.Loop() {
						p.Pick(Hint{})
					}
				})
			}
		}
	}
}
