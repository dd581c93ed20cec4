package cluster

import (
	"math/rand/v2"

	"belay/internal/config"
)

// Hint is what a request brings to the choice of its endpoint.
type Hint struct {
	Pinned *Endpoint // where its session is: taken without balancing if it can take the request
	Avoid  *Endpoint // where a try just failed: taken only if there is no other
}

// Picker chooses endpoints on one worker. It shares nothing with the pickers of
// other workers, so it neither locks nor sees their load.
type Picker struct {
	c       *Cluster
	rng     rand.PCG
	kind    balance
	next    int     // roundRobin: Endpoint.Index to begin with
	current []int64 // smoothRobin: credit by Endpoint.Index
	active  []int32 // requests under way by Endpoint.Index
	sums    []int64 // weights summed up, for a weighted draw
}

type balance uint8

const (
	roundRobin  balance = iota // all weights but 0 are equal
	smoothRobin                // they differ
	leastRequest
	random
)

// NewPicker makes the picker of one worker. Workers start at different places,
// so that a few requests spread over many workers do not all meet the first
// endpoint.
func (c *Cluster) NewPicker(worker int, seed uint64) *Picker {
	n := len(c.Endpoints)
	p := &Picker{c: c, active: make([]int32, n)}
	p.rng.Seed(seed, uint64(worker)+1)
	switch c.Config.Balance {
	case "least_request":
		p.kind = leastRequest
	case "random":
		p.kind = random
	}
	switch {
	case p.kind != roundRobin:
		p.addUp()
	case n > 0 && c.equalWeights():
		p.next = worker % n
	default:
		p.kind = smoothRobin
		p.current = make([]int64, n)
		for range worker {
			p.smooth(nil, true)
		}
	}
	return p
}

// equalWeights reports whether no two weights other than 0 differ.
func (c *Cluster) equalWeights() bool {
	weight := 0
	for _, e := range c.Endpoints {
		if e.Weight > 0 && weight > 0 && e.Weight != weight {
			return false
		}
		weight = max(weight, e.Weight)
	}
	return true
}

func (p *Picker) addUp() {
	p.sums = make([]int64, len(p.c.Endpoints))
	var sum int64
	for i, e := range p.c.Endpoints {
		sum += int64(e.Weight)
		p.sums[i] = sum
	}
}

// Pick returns the endpoint for a request, or nil if none can take it.
func (p *Picker) Pick(h Hint) *Endpoint {
	if h.Pinned != nil && h.Pinned != h.Avoid && h.Pinned.admits(true) {
		return h.Pinned
	}
	var e *Endpoint
	switch p.kind {
	case roundRobin:
		e = p.rotate(h.Avoid)
	case smoothRobin:
		e = p.smooth(h.Avoid, false)
	case leastRequest:
		e = p.leastOfTwo(h.Avoid)
	default:
		e = p.draw(h.Avoid)
	}
	if e == nil && h.Avoid != nil && h.Avoid.admits(h.Avoid == h.Pinned) {
		return h.Avoid
	}
	return e
}

// Begin and End count the requests under way.
func (p *Picker) Begin(e *Endpoint) { p.active[e.Index]++ }

// End takes back what Begin counted.
func (p *Picker) End(e *Endpoint) { p.active[e.Index]-- }

// Active is how many requests the worker has under way at e.
func (p *Picker) Active(e *Endpoint) int { return int(p.active[e.Index]) }

// rotate is what smooth comes to with equal weights, without a look at all of
// them.
func (p *Picker) rotate(avoid *Endpoint) *Endpoint {
	for range p.c.Endpoints {
		e := p.c.Endpoints[p.next]
		if p.next++; p.next == len(p.c.Endpoints) {
			p.next = 0
		}
		if e != avoid && e.admits(false) {
			return e
		}
	}
	return nil
}

// smooth is nginx's smooth weighted round robin: every endpoint earns its weight
// in each round, the richest is chosen and pays what all earned. With absent, the
// names not resolved yet take part: a worker's start does not depend on DNS.
func (p *Picker) smooth(avoid *Endpoint, absent bool) *Endpoint {
	var best *Endpoint
	var total int64
	for i, e := range p.c.Endpoints {
		if e == avoid || e.Weight == 0 || !absent && !e.admits(false) {
			continue
		}
		w := int64(e.Weight)
		total += w
		p.current[i] += w
		if best == nil || p.current[i] > p.current[best.Index] {
			best = e
		}
	}
	if best != nil {
		p.current[best.Index] -= total
	}
	return best
}

// leastOfTwo draws two and takes the one with fewer requests per weight. Equal
// load, none above all, leaves it to the draw, which has regard to weights.
func (p *Picker) leastOfTwo(avoid *Endpoint) *Endpoint {
	a := p.draw(avoid)
	if a == nil {
		return nil
	}
	b := p.draw(avoid)
	for range 2 { // the same one twice says nothing: a small cluster often does
		if b != a {
			break
		}
		b = p.draw(avoid)
	}
	if int64(p.active[b.Index])*int64(a.Weight) < int64(p.active[a.Index])*int64(b.Weight) {
		return b
	}
	return a
}

// draws is how often draw tries before it looks at all.
const draws = 4

// draw takes an endpoint at random by weight.
func (p *Picker) draw(avoid *Endpoint) *Endpoint {
	n := len(p.sums)
	if n == 0 || p.sums[n-1] == 0 {
		return nil
	}
	for range draws {
		x := int64(p.below(uint64(p.sums[n-1])))
		lo, hi := 0, n-1
		for lo < hi {
			if mid := (lo + hi) / 2; p.sums[mid] > x {
				hi = mid
			} else {
				lo = mid + 1
			}
		}
		if e := p.c.Endpoints[lo]; e != avoid && e.admits(false) {
			return e
		}
	}
	return p.drawLeft(avoid)
}

// drawLeft is draw among those that can be had, however few they are.
func (p *Picker) drawLeft(avoid *Endpoint) *Endpoint {
	var total uint64
	var chosen *Endpoint
	for _, e := range p.c.Endpoints {
		if e == avoid || !e.admits(false) {
			continue
		}
		total += uint64(e.Weight)
		if p.below(total) < uint64(e.Weight) {
			chosen = e
		}
	}
	return chosen
}

// below is a number in [0, n).
func (p *Picker) below(n uint64) uint64 { return p.rng.Uint64() % n }

// Split shares requests out over clusters by weight.
type Split struct{ sums []uint64 }

// NewSplit makes a Split; at least one weight must be above 0.
func NewSplit(list []config.WeightedCluster) *Split {
	s := &Split{sums: make([]uint64, len(list))}
	var sum uint64
	for i, c := range list {
		sum += uint64(c.Weight)
		s.sums[i] = sum
	}
	return s
}

// Pick turns a random number into the index of a cluster.
func (s *Split) Pick(random uint64) int {
	total := s.sums[len(s.sums)-1]
	if total == 0 {
		return 0
	}
	x := random % total
	for i, sum := range s.sums {
		if x < sum {
			return i
		}
	}
	return len(s.sums) - 1
}
