package adminapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// The paths of endpoints and stick tables.
const (
	PathEndpoint = "/endpoint" // GET; POST changes it
	PathTables   = "/tables"
	PathTable    = "/table" // GET entries as JSON lines; POST sets one; DELETE drops those that are chosen
)

// EndpointChange is what an operator wants of an endpoint.
type EndpointChange struct {
	Cluster, ID string
	Wish        string        // "enable", "drain" or "disable"
	Deadline    time.Duration // of "drain"; 0: none
}

// Endpoint asks for one endpoint. An unknown one is a ReplyError that names those that
// are near.
func (c *Client) Endpoint(ctx context.Context, cluster, id string) (e Endpoint, err error) {
	err = c.get(ctx, PathEndpoint, url.Values{"cluster": {cluster}, "id": {id}}, &e)
	return e, err
}

// ChangeEndpoint tells the daemon an operator's wish and says how the endpoint is then.
func (c *Client) ChangeEndpoint(ctx context.Context, x EndpointChange) (e Endpoint, err error) {
	q := url.Values{"cluster": {x.Cluster}, "id": {x.ID}, "wish": {x.Wish}}
	if x.Deadline > 0 {
		q.Set("deadline", x.Deadline.String())
	}
	data, err := c.request(ctx, http.MethodPost, PathEndpoint, q)
	if err == nil {
		err = c.decode(PathEndpoint, data, &e)
	}
	return e, err
}

// Table is a stick table.
type Table struct {
	Name     string   `json:"name"`
	Clusters []string `json:"clusters"` // that use it
	Entries  int64    `json:"entries"`
	Size     int64    `json:"size"`
	Expire   float64  `json:"expire_seconds"` // 0: never
	Inserted uint64   `json:"inserted"`
	Evicted  uint64   `json:"evicted"` // pushed out in time, because the table was full
	Expired  uint64   `json:"expired"`
	Hits     uint64   `json:"hits"`
	Misses   uint64   `json:"misses"`
	Store    string   `json:"store,omitempty"` // host where it is shared
}

// TableEntry is one key of a table.
type TableEntry struct {
	// Key is as it is, with "\" and all that is not visible ASCII as \xNN; that of a
	// source is its address.
	Key       string  `json:"key"`
	Cluster   string  `json:"cluster,omitempty"` // "" if the endpoint is not configured
	Endpoint  string  `json:"endpoint,omitempty"`
	Unknown   string  `json:"unknown,omitempty"` // what the table has in place of an endpoint that is not configured
	AgeSecond float64 `json:"age_seconds"`
	Idle      float64 `json:"idle_seconds"`
}

// TableQuery chooses entries of a table; zero fields choose nothing out.
type TableQuery struct {
	Name              string
	Key               string // as in TableEntry
	Cluster, Endpoint string
	IdleOver          time.Duration
	IdleUnder         time.Duration
	Limit             int  // entries to show; 0: all
	All               bool // needed to drop all
}

func (q *TableQuery) values() url.Values {
	v := url.Values{"name": {q.Name}}
	set := func(name, value string, is bool) {
		if is {
			v.Set(name, value)
		}
	}
	set("key", q.Key, q.Key != "")
	set("cluster", q.Cluster, q.Cluster != "")
	set("endpoint", q.Endpoint, q.Endpoint != "")
	set("idle_over", q.IdleOver.String(), q.IdleOver > 0)
	set("idle_under", q.IdleUnder.String(), q.IdleUnder > 0)
	set("limit", strconv.Itoa(q.Limit), q.Limit > 0)
	set("all", "true", q.All)
	return v
}

// Tables asks for the stick tables, by name.
func (c *Client) Tables(ctx context.Context) (l []Table, err error) {
	err = c.get(ctx, PathTables, nil, &l)
	return l, err
}

// TableEntries calls yield with the entries that are chosen, in no order, until it
// returns an error. There may be millions: none is kept. A daemon that stops in the
// middle is an error.
func (c *Client) TableEntries(ctx context.Context, q TableQuery, yield func(TableEntry) error) error {
	body, err := c.open(ctx, PathTable, q.values())
	if err != nil {
		return err
	}
	defer body.Close()
	d := json.NewDecoder(bufio.NewReader(body))
	for {
		var e TableEntry
		var syntax *json.SyntaxError
		switch err := d.Decode(&e); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return errors.New("the reply ends before its end mark: belayd stopped meanwhile")
		case errors.As(err, &syntax):
			return fmt.Errorf("%s does not speak belay's admin API: reply to %s: %w", c.socket, PathTable, err)
		case err != nil:
			return c.explain(err)
		case e.Key == "": // the end mark
			return nil
		}
		if err := yield(e); err != nil {
			return err
		}
	}
}

// SetTable puts an entry into a table and says how it is then.
func (c *Client) SetTable(ctx context.Context, name, key, cluster, endpoint string) (e TableEntry, err error) {
	data, err := c.request(ctx, http.MethodPost, PathTable, url.Values{"name": {name}, "key": {key}, "cluster": {cluster}, "endpoint": {endpoint}})
	if err == nil {
		err = c.decode(PathTable, data, &e)
	}
	return e, err
}

// Cleared is the reply to a DELETE of entries.
type Cleared struct {
	Cleared int `json:"cleared"`
}

// ClearTable drops the entries that are chosen and tells how many there were.
func (c *Client) ClearTable(ctx context.Context, q TableQuery) (int, error) {
	var x Cleared
	data, err := c.request(ctx, http.MethodDelete, PathTable, q.values())
	if err == nil {
		err = c.decode(PathTable, data, &x)
	}
	return x.Cleared, err
}
