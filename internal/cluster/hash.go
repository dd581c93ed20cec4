package cluster

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"strconv"

	"belay/internal/config"

	"github.com/cespare/xxhash/v2"
)

// Two ways to place hashes on endpoints, for balance = "ring_hash" and "maglev". Both
// are made once from all endpoints that are configured, by their ids and weights, so
// that every belay with the same endpoints agrees, and nothing that happens to one
// endpoint moves the hashes of another. The order in the file does not matter.
//
// maglev is the table of Eisenbud et al., "Maglev: A Fast and Reliable Software
// Network Load Balancer" (NSDI 2016), section 3.4: the more even of the two, and the
// faster. An endpoint that cannot be taken is passed over by looking at another slot,
// which the hash alone decides: its hashes spread over the others by weight, and come
// back when it does. An endpoint more or less in the configuration makes another
// table, which moves a few hashes more than it has to.
//
// ring_hash is a ring with several points of each endpoint, as in ketama, where a hash
// probes several places and takes the one that is nearest to a point: Appleton and
// O'Reilly, "Multi-probe consistent hashing" (2015). That evens out what a plain ring
// has uneven. An endpoint that is passed over is the same as one that was never there,
// so not even a change of the configuration moves a hash that it does not have to.

// hashing places hashes on endpoints.
type hashing interface {
	// find is the first endpoint, by Index, in the order of preference of a hash that
	// take accepts; -1 if there is none. It allocates nothing.
	find(hash uint64, take func(index int) bool) int
}

// newHashing makes what the cluster's balance asks for; nil if it does not hash.
func newHashing(c *config.Cluster) hashing {
	switch c.Balance {
	case "maglev":
		return newMaglev(c)
	case "ring_hash":
		return newRing(c)
	}
	return nil
}

// byHash is the choice of balance = "ring_hash" and "maglev".
func (p *Picker) byHash(v *view, h Hint) *Endpoint {
	if len(v.list) == 0 || len(v.list) == 1 && v.list[0] == h.Avoid {
		return nil
	}
	p.avoid, p.bound = h.Avoid, 0
	if c := p.c.Config.Hash.MaxLoad; c > 0 {
		p.bound = c * float64(p.total+1) / p.weight
	}
	i := p.c.hashing.find(h.Hash, p.take)
	if i < 0 && p.bound > 0 { // all have what they may
		p.bound = 0
		i = p.c.hashing.find(h.Hash, p.take)
	}
	if i < 0 {
		return nil
	}
	return p.c.Endpoints[i]
}

// takes reports whether an endpoint can have the request: it is in the view, and with
// max_load it has, on this worker, at most so many times its part of the requests under
// way (Mirrokni et al., "Consistent Hashing with Bounded Loads", 2016).
func (p *Picker) takes(index int) bool {
	if !p.v.in[index] || p.avoid != nil && p.avoid.Index == index {
		return false
	}
	return p.bound == 0 || float64(p.active[index]+1) <= math.Ceil(p.bound*float64(p.c.Endpoints[index].Weight))
}

// placed are the endpoints that have a weight, in an order that the file does not
// change.
func placed(c *config.Cluster) []int {
	var list []int
	for i := range c.Endpoints {
		if c.Endpoints[i].Weight > 0 {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b int) int { return cmp.Compare(c.Endpoints[a].ID, c.Endpoints[b].ID) })
	return list
}

// mix makes another hash of a hash and a small number (the finaliser of MurmurHash3).
func mix(h, n uint64) uint64 {
	h += n * 0x9e3779b97f4a7c15
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// maglev is a table of slots, each an endpoint's.
type maglev struct {
	slots []int32 // Endpoint.Index
	all   []int32 // those that have slots
}

func newMaglev(c *config.Cluster) *maglev {
	size := c.Hash.TableSize
	m := &maglev{slots: make([]int32, size)}
	order := placed(c)
	if len(order) == 0 {
		return m
	}
	next, skip, credit := make([]uint64, len(order)), make([]uint64, len(order)), make([]float64, len(order))
	heaviest := 0
	for k, i := range order {
		e := &c.Endpoints[i]
		next[k] = xxhash.Sum64String("offset\x00"+e.ID) % uint64(size)
		skip[k] = xxhash.Sum64String("skip\x00"+e.ID)%uint64(size-1) + 1
		heaviest = max(heaviest, e.Weight)
		m.all = append(m.all, int32(i))
	}
	for i := range m.slots {
		m.slots[i] = -1
	}
	for filled := 0; ; { // an endpoint has a turn for each heaviest of its weight
		for k, i := range order {
			credit[k] += float64(c.Endpoints[i].Weight)
			if credit[k] < float64(heaviest) {
				continue
			}
			credit[k] -= float64(heaviest)
			for m.slots[next[k]] >= 0 {
				next[k] = (next[k] + skip[k]) % uint64(size)
			}
			m.slots[next[k]] = int32(i)
			if filled++; filled == size {
				return m
			}
		}
	}
}

// maglevProbes is how many slots are looked at before all endpoints are: with a tenth
// of them left, one hash of 10^5 comes so far.
const maglevProbes = 100

func (m *maglev) find(hash uint64, take func(int) bool) int {
	if len(m.all) == 0 {
		return -1
	}
	h := hash
	for n := range uint64(maglevProbes) {
		if i := int(m.slots[h%uint64(len(m.slots))]); take(i) {
			return i
		}
		h = mix(hash, n+1)
	}
	from := int(h % uint64(len(m.all)))
	for n := range m.all {
		if i := int(m.all[(from+n)%len(m.all)]); take(i) {
			return i
		}
	}
	return -1
}

// ring is the points of all endpoints in the order of their places.
type ring struct {
	places []uint64
	owners []int32  // Endpoint.Index
	starts []uint32 // by the upper bits of a place: the first point there or behind
	shift  uint
}

// ringProbes is how many places a hash looks at; more are more even and slower.
const ringProbes = 8

func newRing(c *config.Cluster) *ring {
	type point struct {
		place uint64
		owner int32
	}
	var points []point
	order := placed(c)
	lightest := 0
	for _, i := range order {
		if w := c.Endpoints[i].Weight; lightest == 0 || w < lightest {
			lightest = w
		}
	}
	for _, i := range order {
		e := &c.Endpoints[i]
		n := c.Hash.TableSize * e.Weight / lightest
		n = min(n, maxRingPoints)
		for k := range n {
			points = append(points, point{xxhash.Sum64String(e.ID + "\x00" + strconv.Itoa(k)), int32(i)})
		}
	}
	slices.SortStableFunc(points, func(a, b point) int { return cmp.Compare(a.place, b.place) })
	width := max(1, bits.Len(uint(len(points))))
	r := &ring{places: make([]uint64, len(points)), owners: make([]int32, len(points)), starts: make([]uint32, 1<<width), shift: uint(64 - width)}
	for i, p := range points {
		r.places[i], r.owners[i] = p.place, p.owner
	}
	i := 0
	for b := range r.starts {
		for i < len(points) && points[i].place>>r.shift < uint64(b) {
			i++
		}
		r.starts[b] = uint32(i)
	}
	return r
}

// maxRingPoints bounds the points of one endpoint.
const maxRingPoints = 1 << 17

func (r *ring) find(hash uint64, take func(int) bool) int {
	best, nearest := -1, uint64(0)
	for n := range uint64(ringProbes) {
		place := mix(hash, n)
		i, ok := r.from(place, take)
		if !ok {
			return -1
		}
		if d := r.places[i] - place; best < 0 || d < nearest { // d wraps as the ring does
			best, nearest = int(r.owners[i]), d
		}
	}
	return best
}

// from is the first point at or behind a place whose endpoint is taken.
func (r *ring) from(place uint64, take func(int) bool) (int, bool) {
	n := len(r.places)
	if n == 0 {
		return 0, false
	}
	i := int(r.starts[place>>r.shift])
	for i < n && r.places[i] < place {
		i++
	}
	for range n {
		if i >= n {
			i = 0
		}
		if take(int(r.owners[i])) {
			return i, true
		}
		i++
	}
	return 0, false
}
