package cluster

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
)

// StateVersion is the version of what State writes: a JSON object of names, each
// with a list of its addresses.
const StateVersion = 1

// State is the last good answer for every name, for the process that takes over.
func (r *Resolver) State() []byte {
	r.mu.Lock()
	good := maps.Clone(r.good)
	r.mu.Unlock()
	data, err := json.Marshal(good)
	if err != nil { // addresses and strings always can be
		panic(err)
	}
	return data
}

// Seed takes the answers of another process, so that a name is served before, and
// if need be without, its first look-up here. It must be called after Watch and
// before Start. Names that nobody watches are left out.
func (r *Resolver) Seed(version uint32, data []byte) error {
	if version != StateVersion {
		return fmt.Errorf("version %d of the answers is not known", version)
	}
	var good map[string][]netip.Addr
	if err := json.Unmarshal(data, &good); err != nil {
		return fmt.Errorf("answers: %w", err)
	}
	for host, addrs := range good {
		if w := r.names[host]; w != nil && len(addrs) > 0 {
			w.seeded = true
			r.hand(w, addrs)
		}
	}
	return nil
}
