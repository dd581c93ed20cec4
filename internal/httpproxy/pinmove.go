package httpproxy

import (
	"encoding/binary"

	"belay/internal/cluster"
)

// A session of a weighted route whose cluster has nobody left for it goes to another
// cluster of the route.

// runsOut reports whether the cluster of a lost session has weight 0 on the route, and
// so gets no new one.
func (s *stream) runsOut() bool {
	if s.route.split == nil || !s.pin.lost {
		return false
	}
	for i, c := range s.route.clusters {
		if s.w.clusters[c] == s.cl {
			return s.route.cfg.Clusters[i].Weight == 0
		}
	}
	return false
}

// otherCluster goes over to another cluster of a weighted route, when that of a lost
// session has nobody left or runs out. It reports whether there is one that takes
// requests.
func (s *stream) otherCluster() bool {
	r := s.route
	if r.split == nil || !s.pin.lost {
		return false
	}
	from := r.split.Pick(s.w.rng.Uint64())
	for n := range r.clusters {
		i := (from + n) % len(r.clusters)
		cl := s.w.clusters[r.clusters[i]]
		if cl == s.cl || r.cfg.Clusters[i].Weight == 0 || cl.picker.Pick(cluster.Hint{}) == nil || !cl.enter() {
			continue
		}
		s.leaveCluster()
		if cl.shared.Config.MaxRequests > 0 {
			s.flags |= admitted
		}
		s.cl, s.pin.plan = cl, r.pins[i]
		s.passed, s.pin.hashed = 0, hashUnasked
		if p := s.pin.plan; p != nil && p.table != nil {
			s.tableKey(p.table)
		}
		return true
	}
	return false
}

// hashHint is what the balancer of the cluster must know of a request that is bound to
// no endpoint.
func (s *stream) hashHint() (h cluster.Hint) {
	if len(s.cl.shared.hash) > 0 {
		h.Hash, h.Hashed = s.hashOn()
	}
	return h
}

// enter counts a request into the cluster, if max_requests leaves room.
func (x *clusterWorker) enter() bool {
	limit := int64(x.shared.Config.MaxRequests)
	if limit == 0 || x.shared.Active.Add(1) <= limit {
		return true
	}
	x.shared.Active.Add(-1)
	return false
}

// leaveCluster takes the request out of the books of its cluster, and its session, if
// that moves and does not only make a detour.
func (s *stream) leaveCluster() {
	if s.has(retrying) {
		s.cl.retries--
	}
	if s.has(admitted) {
		s.cl.shared.Active.Add(-1)
	}
	s.flags &^= retrying | admitted
	if t := s.cl.shared.Sessions; t != nil && s.pin.session != 0 && s.pin.done == cluster.Moved {
		var k [8]byte
		binary.BigEndian.PutUint64(k[:], s.pin.session)
		t.Delete(k[:])
	}
}
