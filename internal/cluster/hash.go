package cluster

import (
	"belay/internal/config"
)

// hashing places hashes on endpoints. It is made once from all that are configured,
// so that nothing that happens to one of them moves the hashes of another.
type hashing interface {
	// find is the first endpoint, by Index, in the order of preference of a hash that
	// take accepts; -1 if there is none. It allocates nothing.
	find(hash uint64, take func(index int) bool) int
}

// newHashing makes what the cluster's balance asks for; nil if it does not hash.
func newHashing(*config.Cluster) hashing { return nil }

// byHash is the choice of balance = "ring_hash" and "maglev".
func (p *Picker) byHash(h Hint) *Endpoint {
	p.avoid = h.Avoid
	if i := p.c.hashing.find(h.Hash, p.take); i >= 0 {
		return p.c.Endpoints[i]
	}
	return nil
}

func (p *Picker) takes(index int) bool {
	return p.v.in[index] && (p.avoid == nil || p.avoid.Index != index)
}
