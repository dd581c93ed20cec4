package server

import (
	"slices"

	"belay/internal/config"
	"belay/internal/httpproxy"
)

// sessions is what the proxies need to keep sessions where they are.
func (s *Server) sessions() *httpproxy.Sessions {
	return &httpproxy.Sessions{Keys: s.keyring, Tables: s.tables, Skew: s.cfg.Keys.Skew}
}

// warnCookies says where a browser keeps only one of two sessions: routes of one
// listener to different clusters whose cookies have the same name for the same hosts.
func (s *Server) warnCookies() {
	for _, l := range s.cfg.Listeners {
		for i, a := range l.Routes {
			for _, b := range l.Routes[i+1:] {
				if x := s.sameCookie(a, b); x != "" && hostsMeet(a, b) {
					s.log.Warn("routes to different clusters use the same cookie: a browser that meets both keeps only the last session; give the cookies different names or paths",
						"listener", l.Name, "routes", a.Name+" "+b.Name, "cookie", x)
				}
			}
		}
	}
}

// sameCookie is the name of a cookie that belay sets on both routes for different
// clusters; "" if there is none.
func (s *Server) sameCookie(a, b *config.Route) string {
	for _, x := range s.cookies(a) {
		for _, y := range s.cookies(b) {
			if x.cluster != y.cluster && x.Name == y.Name && x.Path == y.Path && x.Domain == y.Domain && !leads(a, y.cluster) && !leads(b, x.cluster) {
				return x.Name
			}
		}
	}
	return ""
}

func leads(r *config.Route, cluster string) bool {
	return slices.ContainsFunc(r.Clusters, func(w config.WeightedCluster) bool { return w.Cluster == cluster })
}

// ownCookie is a cookie of belay's for a cluster.
type ownCookie struct {
	*config.CookiePersistence
	cluster string
}

func (s *Server) cookies(r *config.Route) (list []ownCookie) {
	for _, w := range r.Clusters {
		i := slices.IndexFunc(s.cfg.Clusters, func(c *config.Cluster) bool { return c.Name == w.Cluster })
		p := s.cfg.Clusters[i].Persistence
		if r.Persistence != nil {
			p = r.Persistence
		}
		if p != nil && !p.Off && p.Cookie != nil && p.Cookie.Mode == "insert" {
			list = append(list, ownCookie{p.Cookie, w.Cluster})
		}
	}
	return list
}

// hostsMeet reports whether a host may lead to both routes.
func hostsMeet(a, b *config.Route) bool {
	if len(a.Hosts) == 0 || len(b.Hosts) == 0 {
		return true
	}
	return slices.ContainsFunc(a.Hosts, func(h string) bool { return slices.Contains(b.Hosts, h) })
}
