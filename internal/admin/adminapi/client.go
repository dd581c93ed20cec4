package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
)

// DefaultSocket is where belayd's admin API is unless configured otherwise.
const DefaultSocket = "/run/belay/admin.sock"

// maxReply bounds what the client reads of one reply, in bytes.
const maxReply = 512 << 20

// Client asks one belayd through its admin socket. Its methods may be called
// from several goroutines; each waits until its context ends.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient makes a client of the daemon whose admin socket is at the path
// socket. It connects when it is first asked for something; Close ends that.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{socket, &http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true, MaxIdleConns: 2}}}
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// ReplyError is a reply of the daemon other than what was asked for.
type ReplyError struct {
	Path   string
	Status int
	Text   string // first line of the reply
}

// Error names the status and the reply.
func (e *ReplyError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("belayd answered %d to %s", e.Status, e.Path)
	}
	return e.Text
}

// Ready asks whether the daemon serves. That it does not is no error.
func (c *Client) Ready(ctx context.Context) (r Ready, err error) {
	err = c.get(ctx, PathReady, url.Values{"format": {"json"}}, &r, http.StatusServiceUnavailable)
	return r, err
}

// Status asks for the daemon as a whole.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	err = c.get(ctx, PathStatus, nil, &s)
	return s, err
}

// Query says which listeners or clusters are wanted, and how much of them.
type Query struct {
	Name    string // "": all
	Buckets bool   // with Latency.Buckets
}

func (q Query) values() url.Values {
	v := url.Values{}
	if q.Name != "" {
		v.Set("name", q.Name)
	}
	if q.Buckets {
		v.Set("buckets", "true")
	}
	return v
}

// Listeners asks for the listeners, by name. An unknown name is a ReplyError.
func (c *Client) Listeners(ctx context.Context, q Query) (l []Listener, err error) {
	err = c.get(ctx, PathListeners, q.values(), &l)
	return l, err
}

// Clusters asks for the clusters and their endpoints, by name. An unknown name
// is a ReplyError.
func (c *Client) Clusters(ctx context.Context, q Query) (l []Cluster, err error) {
	err = c.get(ctx, PathClusters, q.values(), &l)
	return l, err
}

// StatsQuery says which series are wanted.
type StatsQuery struct {
	Filter  string // RE2 expression that a series, as text, must match somewhere; "": all
	NonZero bool   // only those that are not 0
}

func (q StatsQuery) values() url.Values {
	v := url.Values{}
	if q.Filter != "" {
		v.Set("filter", q.Filter)
	}
	if q.NonZero {
		v.Set("nonzero", "true")
	}
	return v
}

// Stats asks for series. A filter that is no expression is a ReplyError.
func (c *Client) Stats(ctx context.Context, q StatsQuery) (s []Series, err error) {
	v := q.values()
	v.Set("format", "json")
	err = c.get(ctx, PathStats, v, &s)
	return s, err
}

// StatsText asks for series as lines of text.
func (c *Client) StatsText(ctx context.Context, q StatsQuery) (string, error) {
	data, err := c.fetch(ctx, PathStats, q.values())
	return string(data), err
}

// Config asks for the configuration in effect: the tables and keys of
// belay.toml with every default, as JSON, and ConfigCertificates.
func (c *Client) Config(ctx context.Context) (raw json.RawMessage, err error) {
	err = c.get(ctx, PathConfig, nil, &raw)
	return raw, err
}

// RestartStatus asks for the generations of hot restart.
func (c *Client) RestartStatus(ctx context.Context) (s RestartStatus, err error) {
	err = c.get(ctx, PathRestartStatus, nil, &s)
	return s, err
}

// DrainStatus asks whether the daemon drains; it changes nothing.
func (c *Client) DrainStatus(ctx context.Context) (s DrainStatus, err error) {
	err = c.get(ctx, PathDrain, nil, &s)
	return s, err
}

// Drain has the daemon drain, or serve again. It is no error if it does that
// already. A refusal is a ReplyError.
func (c *Client) Drain(ctx context.Context, on bool) (s DrainStatus, err error) {
	method := http.MethodPost
	if !on {
		method = http.MethodDelete
	}
	data, err := c.request(ctx, method, PathDrain, nil)
	if err == nil {
		err = c.decode(PathDrain, data, &s)
	}
	return s, err
}

// get fetches path and decodes the JSON reply into v.
func (c *Client) get(ctx context.Context, path string, q url.Values, v any, also ...int) error {
	data, err := c.fetch(ctx, path, q, also...)
	if err != nil {
		return err
	}
	return c.decode(path, data, v)
}

func (c *Client) decode(path string, data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s does not speak belay's admin API: reply to %s: %w", c.socket, path, err)
	}
	return nil
}

func (c *Client) fetch(ctx context.Context, path string, q url.Values, also ...int) ([]byte, error) {
	return c.request(ctx, http.MethodGet, path, q, also...)
}

// request returns the body of a reply 200 or of one of the statuses also.
func (c *Client) request(ctx context.Context, method, path string, q url.Values, also ...int) ([]byte, error) {
	u := url.URL{Scheme: "http", Host: "belayd", Path: path, RawQuery: q.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "belayctl")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return nil, c.explain(err)
	}
	if resp.StatusCode == http.StatusOK {
		return data, nil
	}
	for _, s := range also {
		if resp.StatusCode == s {
			return data, nil
		}
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return nil, &ReplyError{path, resp.StatusCode, strings.TrimSpace(line)}
}

// explain says what the person who asks can do about a failed request.
func (c *Client) explain(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // without the method and a URL that nobody typed
	}
	cause := err
	var no syscall.Errno
	if errors.As(err, &no) {
		cause = no
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("belayd at %s does not answer: %w", c.socket, cause)
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("cannot reach belayd at %s: %w; run this as root or as the user belay", c.socket, cause)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("cannot reach belayd at %s: %w, is it running? (try --socket)", c.socket, cause)
	}
	return fmt.Errorf("cannot reach belayd at %s: %w (try --socket)", c.socket, cause)
}
