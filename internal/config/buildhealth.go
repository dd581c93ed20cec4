package config

// buildHealth is what a cluster says of its endpoints' health and of how they are
// chosen beyond balance.
func (b *builder) buildHealth(c *Cluster, raw *rawCluster, at *path) {
	put(&c.PanicThreshold, raw.PanicThreshold)
	put(&c.SlowStart, raw.SlowStart)
	put(&c.MaxRequests, raw.MaxRequests)
	put(&c.TrackSessions, raw.TrackSessions)
	hashes := c.Balance == "ring_hash" || c.Balance == "maglev"
	switch {
	case raw.Hash != nil && !hashes:
		b.missing(at, "balance", `must be "ring_hash" or "maglev" for the table hash`)
	case hashes:
		b.buildHash(c, raw.Hash, at.child("hash"))
	}
	if raw.Persistence != nil {
		if c.Persistence = b.buildPersistence(raw.Persistence, at.child("persistence")); c.Persistence.Off {
			c.Persistence = nil
		}
	}
	if raw.HealthCheck != nil {
		c.HealthCheck = b.healthCheck(raw.HealthCheck, at.child("health_check"))
	}
	if raw.Outlier != nil {
		c.Outlier = b.outlier(raw.Outlier, at.child("outlier"))
	}
}

func (b *builder) buildHash(c *Cluster, raw *rawHash, at *path) {
	h := &c.Hash
	h.TableSize = defaultMaglevSize
	if c.Balance == "ring_hash" {
		h.TableSize = defaultRingPoints
	}
	if raw != nil {
		for i := range raw.On {
			h.On = append(h.On, b.hashOn(&raw.On[i], at.child("on").at(i)))
		}
		if raw.On != nil && len(raw.On) == 0 {
			b.missing(at, "on", "is empty; leave it out for the client's address")
		}
		put(&h.TableSize, raw.TableSize)
		if raw.MaxLoad != nil {
			h.MaxLoad = *raw.MaxLoad
			if h.MaxLoad > 0 && h.MaxLoad < minMaxLoad {
				b.add(at.child("max_load"), "must be 0 or from %g to 10, not %g", minMaxLoad, h.MaxLoad)
			}
		}
		if raw.TableSize != nil {
			b.hashSize(c, at.child("table_size"))
		}
	}
	if len(h.On) == 0 {
		h.On = []HashOn{{Source: true}}
	}
}

// minMaxLoad leaves the hash something to decide.
const minMaxLoad = 1.05

// maxRingPoints bounds the memory of a ring.
const maxRingPoints = 100000

func (b *builder) hashSize(c *Cluster, at *path) {
	n := c.Hash.TableSize
	switch {
	case c.Balance == "maglev" && !isPrime(n):
		b.add(at, "%d is not a prime; the next one is %d", n, nextPrime(n))
	case c.Balance == "ring_hash" && n > maxRingPoints:
		b.add(at, "must be from 100 to %d for ring_hash, not %d", maxRingPoints, n)
	}
}

func isPrime(n int) bool {
	for i := 2; i*i <= n; i++ {
		if n%i == 0 {
			return false
		}
	}
	return n > 1
}

func nextPrime(n int) int {
	for !isPrime(n) {
		n++
	}
	return n
}

func (b *builder) healthCheck(raw *rawHealthCheck, at *path) *HealthCheck {
	h := defaultHealthCheck()
	putText(&h.Type, raw.Type)
	putText(&h.Method, raw.Method)
	putText(&h.Path, raw.Path)
	putText(&h.Host, raw.Host)
	for _, n := range names(b, at.child("headers"), raw.Headers, nil) {
		h.Headers = append(h.Headers, [2]string{n, string(raw.Headers[n])})
	}
	if raw.Status != nil {
		h.Status = ranges(raw.Status)
		if len(raw.Status) == 0 {
			b.missing(at, "status", "is empty: no reply would be good")
		}
	}
	h.Degraded = ranges(raw.Degraded)
	if raw.Body != nil {
		h.Body = raw.Body.re
	}
	put(&h.Port, raw.Port)
	put(&h.Interval, raw.Interval)
	h.IntervalDown, h.IntervalFirst = h.Interval, min(h.IntervalFirst, h.Interval)
	put(&h.IntervalDown, raw.IntervalDown)
	put(&h.IntervalFirst, raw.IntervalFirst)
	if raw.Jitter != nil {
		h.Jitter = *raw.Jitter
	}
	put(&h.Timeout, raw.Timeout)
	put(&h.Rise, raw.Rise)
	put(&h.Fall, raw.Fall)
	if h.Type != "http" {
		for key, given := range map[string]bool{
			"method": raw.Method != nil, "path": raw.Path != nil, "headers": raw.Headers != nil, "status": raw.Status != nil,
			"degraded_status": raw.Degraded != nil, "body": raw.Body != nil, "host": raw.Host != nil && h.Type == "tcp",
		} {
			if given {
				b.add(at.child(key), "has no meaning for type = %q", h.Type)
			}
		}
	}
	return h
}

func ranges(raw []statusRange) (list []StatusRange) {
	for _, r := range raw {
		list = append(list, StatusRange(r))
	}
	return list
}

func (b *builder) outlier(raw *rawOutlier, at *path) *Outlier {
	o := defaultOutlier()
	put(&o.Consecutive, raw.Consecutive)
	if raw.On != nil {
		o.On = 0
		for i, on := range raw.On {
			if RetryOn(on) == RetryStatus {
				b.add(at.child("on").at(i), `"status" is only for retry.on`)
			}
			o.On |= RetryOn(on)
		}
		if len(raw.On) == 0 {
			b.missing(at, "on", "is empty: nothing would be an error")
		}
	}
	if raw.SuccessRate != nil {
		o.SuccessRate = *raw.SuccessRate
	}
	put(&o.SuccessRateMinimum, raw.SuccessRateMinimum)
	put(&o.SuccessRateHosts, raw.SuccessRateHosts)
	put(&o.FailurePercent, raw.FailurePercent)
	put(&o.Interval, raw.Interval)
	put(&o.Ejection, raw.Ejection)
	put(&o.MaxEjection, raw.MaxEjection)
	put(&o.MaxEjected, raw.MaxEjected)
	if o.Ejection > o.MaxEjection {
		if raw.MaxEjection != nil {
			b.add(at.child("max_ejection_time"), "(%s) is shorter than ejection_time (%s)", o.MaxEjection, o.Ejection)
		}
		o.MaxEjection = o.Ejection
	}
	return o
}

// checkTCPPersistence reports what a cluster asks for that its listeners cannot give:
// a TCP connection has neither cookies nor headers.
func (b *builder) checkTCPPersistence(cfg *Config) {
	http, tcp := make(map[string]bool), make(map[string]string)
	for _, l := range cfg.Listeners {
		for _, r := range l.Routes {
			for _, w := range r.Clusters {
				http[w.Cluster] = true
			}
		}
		if l.Protocol != ProtocolTCP {
			continue
		}
		for _, w := range l.Clusters {
			tcp[w.Cluster] = l.Name
		}
		for _, c := range l.Chains {
			tcp[c.Cluster] = l.Name
		}
	}
	for i, c := range cfg.Clusters {
		l, at := tcp[c.Name], b.clusters[i].at
		if l == "" || http[c.Name] {
			continue
		}
		if p := c.Persistence; p != nil && (p.Cookie != nil || p.Header != nil) {
			key := "cookie"
			if p.Cookie == nil {
				key = "header"
			}
			b.add(at.child("persistence").child(key), "only listener.%s leads here, which is TCP: a connection has a source and perhaps an SNI; use table", l)
		}
		b.onlyTCP(c.Hash.On, at.child("hash").child("on"), l)
		if c.Persistence != nil && c.Persistence.Table != nil {
			b.onlyTCP(c.Persistence.Table.Key, at.child("persistence").child("table").child("key"), l)
		}
	}
}

func (b *builder) onlyTCP(list []HashOn, at *path, listener string) {
	for i, h := range list {
		if !h.Source && !h.SNI {
			b.add(at.at(i), "only listener.%s leads here, which is TCP: a connection has only source and sni", listener)
		}
	}
}
