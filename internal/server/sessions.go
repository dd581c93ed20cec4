package server

import (
	"slices"
	"strings"

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
	clusters := make(map[string]*config.Cluster, len(s.cfg.Clusters))
	for _, c := range s.cfg.Clusters {
		clusters[c.Name] = c
	}
	for _, l := range s.cfg.Listeners {
		places := make(map[cookiePlace][]ownCookie)
		var order []cookiePlace
		for _, r := range l.Routes {
			for _, c := range cookies(r, clusters) {
				at := cookiePlace{c.Name, c.Path, c.Domain}
				if places[at] == nil {
					order = append(order, at)
				}
				places[at] = append(places[at], c)
			}
		}
		for _, at := range order {
			if a, b := clash(places[at]); a != nil {
				s.log.Warn("routes to different clusters use the same cookie: a browser that meets both keeps only the last session; give the cookies different names or paths",
					"listener", l.Name, "routes", a.Name+" "+b.Name, "cookie", at.name)
			}
		}
	}
}

// cookiePlace is what a browser tells cookies of one host apart by.
type cookiePlace struct{ name, path, domain string }

// ownCookie is a cookie of belay's for a cluster of a route.
type ownCookie struct {
	*config.CookiePersistence
	route   *config.Route
	cluster string
}

func cookies(r *config.Route, clusters map[string]*config.Cluster) (list []ownCookie) {
	for _, w := range r.Clusters {
		p := clusters[w.Cluster].Persistence
		if r.Persistence != nil {
			p = r.Persistence
		}
		if p != nil && !p.Off && p.Cookie != nil && p.Cookie.Mode == "insert" {
			list = append(list, ownCookie{p.Cookie, r, w.Cluster})
		}
	}
	return list
}

// clash finds two routes that one host may lead to and that push each other's cookie
// out; nil if there are none.
func clash(list []ownCookie) (a, b *config.Route) {
	byHost := make(map[string][]ownCookie)
	for _, c := range list {
		for _, h := range hostsOf(c.route) {
			byHost[h] = append(byHost[h], c)
		}
	}
	for _, c := range list {
		for _, h := range hostsOf(c.route) {
			for {
				for _, o := range byHost[h] {
					if c.cluster != o.cluster && !leads(c.route, o.cluster) && !leads(o.route, c.cluster) {
						return inOrder(c.route, o.route)
					}
				}
				if h == "" || takesAll(c.route) {
					break // no request of the host goes on to a route with a wider one
				}
				h = wider(h)
			}
		}
	}
	return nil, nil
}

func inOrder(a, b *config.Route) (first, second *config.Route) {
	if b.Index < a.Index {
		return b, a
	}
	return a, b
}

func hostsOf(r *config.Route) []string {
	if len(r.Hosts) == 0 {
		return []string{""}
	}
	return r.Hosts
}

// wider is the next "*." host that has a host in it; "" is any host.
func wider(host string) string {
	_, rest, _ := strings.Cut(strings.TrimPrefix(host, "*."), ".")
	if rest == "" {
		return ""
	}
	return "*." + rest
}

// takesAll reports whether a route takes every request of its hosts.
func takesAll(r *config.Route) bool {
	return r.Path == "" && (r.PathPrefix == "" || r.PathPrefix == "/") && r.PathRegex == nil && len(r.Methods) == 0 && len(r.Headers) == 0
}

func leads(r *config.Route, cluster string) bool {
	return slices.ContainsFunc(r.Clusters, func(w config.WeightedCluster) bool { return w.Cluster == cluster })
}
