package cluster

import (
	"math/rand/v2"
	"slices"

	"belay/internal/config"
)

// Hint is what a request brings to the choice of its endpoint.
type Hint struct {
	Pinned *Endpoint // where its session is: taken without balancing if it can take the request
	Avoid  *Endpoint // where a try just failed: taken only if there is no other
	Hash   uint64    // of what the cluster hashes on
	Hashed bool      // the request has that
}

// Picker chooses endpoints on one worker. It shares nothing with the pickers of
// other workers, so it neither locks nor sees their load.
type Picker struct {
	c       *Cluster
	v       *view // that the fields below were made for
	rng     rand.PCG
	kind    balance
	next    int     // roundRobin: Endpoint.Index to begin with
	current []int64 // smoothRobin: credit by Endpoint.Index
	active  []int32 // requests under way by Endpoint.Index
	total   int64   // sum of active
	sums    []int64 // weights of v summed up, for a weighted draw

	weight float64        // of v.list, as configured
	avoid  *Endpoint      // of the choice that hashing makes
	bound  float64        // requests per weight that an endpoint may have; 0: any
	take   func(int) bool // p.takes
}

type balance uint8

const (
	robin balance = iota
	leastRequest
	random
	hashed
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
	case "ring_hash", "maglev":
		p.kind, p.take = hashed, p.takes
	}
	if p.kind == robin && n > 0 {
		p.next = worker % n
		p.current = make([]int64, n)
		if !c.equalWeights() {
			for range worker {
				p.skip()
			}
		}
	}
	return p
}

// equalWeights reports whether no two configured weights other than 0 differ.
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

// look takes over what has become of the endpoints since the last choice.
func (p *Picker) look() *view {
	v := p.c.current.Load()
	if v == p.v {
		return v
	}
	p.v = v
	if p.kind != robin {
		p.sums = p.sums[:0]
		var sum int64
		for _, w := range v.weights {
			sum += w
			p.sums = append(p.sums, sum)
		}
	}
	p.weight = 0
	for _, e := range v.list {
		p.weight += float64(e.Weight)
	}
	return v
}

// Pick returns the endpoint for a request, or nil if none can take it.
func (p *Picker) Pick(h Hint) *Endpoint {
	if h.Pinned != nil && h.Pinned != h.Avoid && h.Pinned.AdmitsPinned() {
		return h.Pinned
	}
	v := p.look()
	var e *Endpoint
	switch {
	case p.kind == robin && v.equal:
		e = p.rotate(v, h.Avoid)
	case p.kind == robin:
		e = p.smooth(v, h.Avoid)
	case p.kind == leastRequest:
		e = p.leastOfTwo(v, h.Avoid)
	case p.kind == hashed && h.Hashed:
		e = p.byHash(v, h)
	default:
		e = p.draw(v, h.Avoid)
	}
	if e == nil && h.Avoid != nil && (v.in[h.Avoid.Index] || h.Avoid == h.Pinned && h.Avoid.AdmitsPinned()) {
		return h.Avoid
	}
	return e
}

// Other is an endpoint that takes new sessions and is not among some, or nil. It does
// not weigh.
func (p *Picker) Other(some []*Endpoint) *Endpoint {
	v := p.look()
	n := len(v.list)
	if n == 0 {
		return nil
	}
	from := int(p.below(uint64(n)))
	for i := range n {
		if e := v.list[(from+i)%n]; !slices.Contains(some, e) {
			return e
		}
	}
	return nil
}

// Begin and End count the requests under way.
func (p *Picker) Begin(e *Endpoint) {
	p.active[e.Index]++
	p.total++
}

// End takes back what Begin counted.
func (p *Picker) End(e *Endpoint) {
	p.active[e.Index]--
	p.total--
}

// Active is how many requests the worker has under way at e.
func (p *Picker) Active(e *Endpoint) int { return int(p.active[e.Index]) }

// rotate is what smooth comes to with equal weights, without a look at all of
// them.
func (p *Picker) rotate(v *view, avoid *Endpoint) *Endpoint {
	i := v.from(p.next)
	for range min(2, len(v.list)) { // avoid is one at most
		if i == len(v.list) {
			i = 0
		}
		e := v.list[i]
		p.next = e.Index + 1
		if e != avoid {
			return e
		}
		i++
	}
	return nil
}

// from is the place in list of the first endpoint with this index or a later one.
func (v *view) from(index int) int {
	if index < len(v.list) && v.list[index].Index == index { // all are in it
		return index
	}
	lo, hi := 0, len(v.list)
	for lo < hi {
		if mid := (lo + hi) / 2; v.list[mid].Index < index {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// smooth is nginx's smooth weighted round robin: every endpoint earns its weight
// in each round, the richest is chosen and pays what all earned.
func (p *Picker) smooth(v *view, avoid *Endpoint) *Endpoint {
	var best *Endpoint
	var total int64
	for i, e := range v.list {
		if e == avoid {
			continue
		}
		w := v.weights[i]
		total += w
		p.current[e.Index] += w
		if best == nil || p.current[e.Index] > p.current[best.Index] {
			best = e
		}
	}
	if best != nil {
		p.current[best.Index] -= total
	}
	return best
}

// skip is a round of smooth by the configured weights, names that are not resolved
// yet included: a worker's start does not depend on DNS.
func (p *Picker) skip() {
	best := -1
	var total int64
	for i, e := range p.c.Endpoints {
		if e.Weight == 0 {
			continue
		}
		total += int64(e.Weight)
		p.current[i] += int64(e.Weight)
		if best < 0 || p.current[i] > p.current[best] {
			best = i
		}
	}
	if best >= 0 {
		p.current[best] -= total
	}
}

// leastOfTwo draws two and takes the one with fewer requests per weight. Equal
// load, none above all, leaves it to the draw, which has regard to weights.
func (p *Picker) leastOfTwo(v *view, avoid *Endpoint) *Endpoint {
	i := p.drawIndex(v, avoid)
	if i < 0 {
		return nil
	}
	j := p.drawIndex(v, avoid)
	for range 2 { // the same one twice says nothing: a small cluster often does
		if j != i {
			break
		}
		j = p.drawIndex(v, avoid)
	}
	a, b := v.list[i], v.list[j]
	if int64(p.active[b.Index])*v.weights[i] < int64(p.active[a.Index])*v.weights[j] {
		return b
	}
	return a
}

func (p *Picker) draw(v *view, avoid *Endpoint) *Endpoint {
	if i := p.drawIndex(v, avoid); i >= 0 {
		return v.list[i]
	}
	return nil
}

// draws is how often drawIndex tries before it looks at all.
const draws = 4

// drawIndex takes a place in v.list at random by weight, or -1.
func (p *Picker) drawIndex(v *view, avoid *Endpoint) int {
	n := len(p.sums)
	if n == 0 {
		return -1
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
		if v.list[lo] != avoid {
			return lo
		}
	}
	return p.drawLeft(v, avoid)
}

// drawLeft is drawIndex without avoid, however much of the weight that has.
func (p *Picker) drawLeft(v *view, avoid *Endpoint) int {
	var total uint64
	chosen := -1
	for i, e := range v.list {
		if e == avoid {
			continue
		}
		total += uint64(v.weights[i])
		if p.below(total) < uint64(v.weights[i]) {
			chosen = i
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
