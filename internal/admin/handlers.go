package admin

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"belay/internal/admin/adminapi"
	"belay/internal/config"
	"belay/internal/stats"
)

// page is one path of the API.
type page struct {
	path, about string
	serve       handler  // GET and HEAD, which change nothing
	change      []action // the other methods, in the order of Allow
}

type action struct {
	method string
	serve  handler
}

type handler func(http.ResponseWriter, url.Values) error

// refusal is an error that becomes the reply.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return e.text }

func badRequest(format string, args ...any) error {
	return &refusal{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// api is everything, for the Unix socket.
func (s *Server) api() http.Handler {
	return mux([]page{
		s.readyPage(),
		{path: adminapi.PathStatus, about: "the daemon as a whole, JSON", serve: s.status},
		{path: adminapi.PathRestartStatus, about: "the generations of hot restart, JSON", serve: s.restartStatus},
		{path: adminapi.PathStats, about: "statistics, name{labels} value; ?filter=RE2 ?nonzero=true ?format=json", serve: s.stats},
		s.metricsPage(),
		{path: adminapi.PathListeners, about: "listeners, JSON; ?name= ?buckets=true", serve: s.listeners},
		{path: adminapi.PathClusters, about: "clusters with their endpoints, JSON; ?name= ?buckets=true", serve: s.clusters},
		{path: adminapi.PathCerts, about: "certificates and what else TLS needs, JSON", serve: s.certs},
		{path: adminapi.PathTLSExplain, about: "what a TLS client would get, JSON; ?sni= ?listener= ?alpn= ?source= ?port= ?tls12=true ?no_ecdsa=true", serve: s.explainTLS},
		{path: adminapi.PathConfig, about: "the configuration in effect and the state of its certificates, JSON", serve: s.config},
		{
			path: adminapi.PathDrain, about: "whether the daemon drains, JSON; POST begins that, DELETE ends it", serve: s.drainStatus,
			change: []action{{http.MethodPost, s.drain(true)}, {http.MethodDelete, s.drain(false)}},
		},
	})
}

// metricsAPI is what may be told to whoever can reach a TCP port. It changes
// nothing.
func (s *Server) metricsAPI() http.Handler { return mux([]page{s.readyPage(), s.metricsPage()}) }

func (s *Server) readyPage() page {
	return page{path: adminapi.PathReady, about: "200 if the daemon serves, else 503 and why; ?format=json", serve: s.ready}
}

func (s *Server) metricsPage() page {
	return page{path: adminapi.PathMetrics, about: "statistics for Prometheus", serve: s.metrics}
}

// mux answers for a list of pages, and for all that is not among them.
func mux(list []page) http.Handler {
	var index strings.Builder
	for _, e := range list {
		fmt.Fprintf(&index, "%-15s %s\n", e.path, e.about)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		if err := dispatch(list, index.String(), w, r); err != nil {
			fail(w, err)
		}
	})
}

func dispatch(list []page, index string, w http.ResponseWriter, r *http.Request) error {
	p := page{serve: func(w http.ResponseWriter, _ url.Values) error {
		_, err := w.Write([]byte(index))
		return err
	}}
	if r.URL.Path != "/" {
		i := slices.IndexFunc(list, func(e page) bool { return e.path == r.URL.Path })
		if i < 0 {
			return &refusal{http.StatusNotFound, fmt.Sprintf("no %.100q here; there is:\n%s", r.URL.Path, strings.TrimSuffix(index, "\n"))}
		}
		p = list[i]
	}
	serve := p.method(r.Method)
	if serve == nil {
		w.Header().Set("Allow", p.allow())
		return &refusal{http.StatusMethodNotAllowed, fmt.Sprintf("%s takes %s", r.URL.Path, p.allow())}
	}
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close") // instead of reading what nobody wants
		return badRequest("a request with a body")
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return badRequest("query: %v", err)
	}
	return serve(w, q)
}

// method is what answers to a method; nil: nothing.
func (p *page) method(name string) handler {
	if name == http.MethodGet || name == http.MethodHead {
		return p.serve
	}
	for _, a := range p.change {
		if a.method == name {
			return a.serve
		}
	}
	return nil
}

// allow lists the methods of a page (RFC 9110, section 10.2.1).
func (p *page) allow() string {
	text := "GET, HEAD"
	for _, a := range p.change {
		text += ", " + a.method
	}
	return text
}

// fail makes a reply of what a handler returned. An error while writing has
// nobody to be told to: the connection is gone.
func fail(w http.ResponseWriter, err error) {
	var no *refusal
	if errors.As(err, &no) {
		w.WriteHeader(no.status)
		fmt.Fprintln(w, no.text)
	}
}

func (s *Server) ready(w http.ResponseWriter, q url.Values) error {
	asJSON, err := wantsJSON(q)
	if err != nil {
		return err
	}
	var r adminapi.Ready
	r.Ready, r.Reason = s.src.Ready()
	if asJSON {
		w.Header().Set("Content-Type", "application/json")
	}
	if !r.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	_, err = fmt.Fprintln(w, r.Reason)
	return err
}

func (s *Server) status(w http.ResponseWriter, _ url.Values) error {
	st := s.src.Status()
	if st.UptimeSeconds == 0 {
		st.UptimeSeconds = time.Since(st.Started).Seconds()
	}
	return writeJSON(w, st)
}

func (s *Server) restartStatus(w http.ResponseWriter, _ url.Values) error {
	st := s.src.RestartStatus()
	if st.Time.IsZero() {
		st.Time = time.Now()
	}
	if st.Generations == nil {
		st.Generations = []adminapi.Generation{}
	}
	return writeJSON(w, st)
}

func (s *Server) drainStatus(w http.ResponseWriter, _ url.Values) error {
	return writeJSON(w, s.src.DrainStatus())
}

// drain answers to the one request that changes something.
func (s *Server) drain(on bool) handler {
	return func(w http.ResponseWriter, _ url.Values) error {
		st, err := s.src.SetDraining(on)
		if err != nil {
			return &refusal{http.StatusConflict, err.Error()}
		}
		return writeJSON(w, st)
	}
}

func (s *Server) metrics(w http.ResponseWriter, _ url.Values) error {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	return stats.WritePrometheus(w, s.src.Snapshot())
}

func (s *Server) listeners(w http.ResponseWriter, q url.Values) error {
	all := s.src.Listeners()
	all, err := only(all, q.Get("name"), "listener", func(l *adminapi.Listener) string { return l.Name })
	if err != nil {
		return err
	}
	if !isSet(q, "buckets") {
		all = slices.Clone(all)
		for i := range all {
			all[i].Latency.Buckets = nil
		}
	}
	return writeJSON(w, all)
}

func (s *Server) clusters(w http.ResponseWriter, q url.Values) error {
	all := s.src.Clusters()
	all, err := only(all, q.Get("name"), "cluster", func(c *adminapi.Cluster) string { return c.Name })
	if err != nil {
		return err
	}
	all = slices.Clone(all)
	buckets := isSet(q, "buckets")
	for i := range all {
		c := &all[i]
		c.Sum()
		if buckets {
			continue
		}
		c.Latency.Buckets = nil
		c.Endpoints = slices.Clone(c.Endpoints)
		for k := range c.Endpoints {
			c.Endpoints[k].Latency.Buckets = nil
		}
	}
	return writeJSON(w, all)
}

// only is all, or the one element of that name.
func only[T any](all []T, name, kind string, of func(*T) string) ([]T, error) {
	if name == "" {
		return all, nil
	}
	for i := range all {
		if of(&all[i]) == name {
			return all[i : i+1], nil
		}
	}
	return nil, &refusal{http.StatusNotFound, fmt.Sprintf("there is no %s %.100q", kind, name)}
}

func (s *Server) config(w http.ResponseWriter, _ url.Values) error {
	v := s.src.Config()
	if c, ok := v.(*config.Config); ok {
		v = append(effective(c), certificateStates(s.src.Certificates())...)
	}
	return writeJSON(w, v)
}

// maxFilter bounds a filter, in bytes: RE2 is linear, but not in its own length.
const maxFilter = 1024

func (s *Server) stats(w http.ResponseWriter, q url.Values) error {
	asJSON, err := wantsJSON(q)
	if err != nil {
		return err
	}
	var filter *regexp.Regexp
	if f := q.Get("filter"); len(f) > maxFilter {
		return badRequest("filter of %d bytes, at most %d", len(f), maxFilter)
	} else if f != "" {
		if filter, err = regexp.Compile(f); err != nil {
			return badRequest("filter: %v", err)
		}
	}
	if asJSON {
		return writeJSON(w, collect(s.src.Snapshot(), filter, isSet(q, "nonzero")))
	}
	b := bufio.NewWriterSize(w, 64<<10)
	writeText(b, s.src.Snapshot(), filter, isSet(q, "nonzero"))
	return b.Flush()
}

// wantsJSON reads ?format=.
func wantsJSON(q url.Values) (bool, error) {
	switch f := q.Get("format"); f {
	case "", "text":
		return false, nil
	case "json":
		return true, nil
	default:
		return false, badRequest("format is text or json, not %.100q", f)
	}
}

// isSet reads a switch: ?name, ?name=true or ?name=1.
func isSet(q url.Values, name string) bool {
	if !q.Has(name) {
		return false
	}
	v := q.Get(name)
	on, _ := strconv.ParseBool(v)
	return v == "" || on
}

func writeJSON(w http.ResponseWriter, v any) error {
	data, err := marshal(v)
	if err != nil {
		return &refusal{http.StatusInternalServerError, err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, err = w.Write(data)
	return err
}

// marshal is v as JSON with a line end; "<" and "&" need no escape here.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}
