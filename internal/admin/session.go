package admin

import (
	"bufio"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"belay/internal/admin/adminapi"
)

func (s *Server) endpoint(w http.ResponseWriter, q url.Values) error {
	e, err := s.src.Endpoint(q.Get("cluster"), q.Get("id"))
	return writeEndpoint(w, e, err)
}

func (s *Server) changeEndpoint(w http.ResponseWriter, q url.Values, by string) error {
	x := adminapi.EndpointChange{Cluster: q.Get("cluster"), ID: q.Get("id"), Wish: q.Get("wish")}
	if x.Wish != "enable" && x.Wish != "drain" && x.Wish != "disable" {
		return badRequest("wish must be enable, drain or disable, not %.100q", x.Wish)
	}
	var err error
	if x.Deadline, err = timeIn(q, "deadline"); err != nil {
		return err
	}
	if x.Deadline > 0 && x.Wish != "drain" {
		return badRequest("deadline is only for drain")
	}
	e, err := s.src.ChangeEndpoint(x, by)
	return writeEndpoint(w, e, err)
}

func writeEndpoint(w http.ResponseWriter, e adminapi.Endpoint, err error) error {
	if err != nil {
		return refused(err)
	}
	e.Latency.Buckets = nil
	return writeJSON(w, e)
}

// timeIn reads a duration above 0; a parameter that is not there is 0.
func timeIn(q url.Values, name string) (time.Duration, error) {
	text := q.Get(name)
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, badRequest("%s: %.100q is not a time such as 10m", name, text)
	}
	return d, nil
}

func (s *Server) tables(w http.ResponseWriter, _ url.Values) error {
	list := s.src.Tables()
	if list == nil {
		list = []adminapi.Table{}
	}
	return writeJSON(w, list)
}

// tableQuery reads what chooses entries.
func tableQuery(q url.Values) (x adminapi.TableQuery, err error) {
	x = adminapi.TableQuery{Name: q.Get("name"), Key: q.Get("key"), Cluster: q.Get("cluster"), Endpoint: q.Get("endpoint"), All: isSet(q, "all")}
	if (x.Cluster == "") != (x.Endpoint == "") {
		return x, badRequest("cluster and endpoint go together")
	}
	if x.IdleOver, err = timeIn(q, "idle_over"); err != nil {
		return x, err
	}
	if x.IdleUnder, err = timeIn(q, "idle_under"); err != nil {
		return x, err
	}
	if text := q.Get("limit"); text != "" {
		if x.Limit, err = strconv.Atoi(text); err != nil || x.Limit < 1 {
			return x, badRequest("limit: %.100q is not a number above 0", text)
		}
	}
	return x, nil
}

// tableEntries writes a line for each entry and {} at the end, so that a reply that
// was cut can be told. Time is limited for each part, not for the whole: there may
// be millions, and a person who reads.
func (s *Server) tableEntries(w http.ResponseWriter, q url.Values) error {
	x, err := tableQuery(q)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := bufio.NewWriterSize(&patient{w, http.NewResponseController(w)}, tableBuffer)
	n, enc := 0, json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	err = s.src.TableEntries(x, func(e adminapi.TableEntry) bool {
		n++
		return enc.Encode(e) == nil && (x.Limit == 0 || n < x.Limit)
	})
	if err != nil {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		return refused(err)
	}
	out.WriteString("{}\n") // Flush tells of the first error
	return out.Flush()
}

// tableBuffer is what is written at a time of a table, and tableTimeout how long a
// client may take for it.
const (
	tableBuffer  = 32 << 10
	tableTimeout = 5 * time.Minute
)

// patient is a reply whose time limit begins anew with each part.
type patient struct {
	w http.ResponseWriter
	c *http.ResponseController
}

// Write writes a part.
func (p *patient) Write(b []byte) (int, error) {
	if err := p.c.SetWriteDeadline(time.Now().Add(tableTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return p.w.Write(b)
}

func (s *Server) setTable(w http.ResponseWriter, q url.Values, by string) error {
	if q.Get("key") == "" {
		return badRequest("key is missing")
	}
	x := adminapi.TableEntry{Key: q.Get("key"), Cluster: q.Get("cluster"), Endpoint: q.Get("endpoint")}
	x, err := s.src.SetTable(x, q.Get("name"), by)
	if err != nil {
		return refused(err)
	}
	return writeJSON(w, x)
}

func (s *Server) clearTable(w http.ResponseWriter, q url.Values, by string) error {
	x, err := tableQuery(q)
	if err != nil {
		return err
	}
	if x.Key == "" && x.Endpoint == "" && x.IdleOver == 0 && x.IdleUnder == 0 && !x.All {
		return badRequest("nothing is chosen: all=true drops every entry")
	}
	n, err := s.src.ClearTable(x, by)
	if err != nil {
		return refused(err)
	}
	return writeJSON(w, adminapi.Cleared{Cleared: n})
}
