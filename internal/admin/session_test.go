package admin

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"belay/internal/admin/adminapi"
)

func TestSessionPages(t *testing.T) {
	for _, tt := range []struct {
		name, method, path string
		refuse             error
		status             int
		reply              string // is in it
		wish               string
		query              adminapi.TableQuery
	}{
		{name: "OK endpoint", method: "GET", path: "/endpoint?cluster=app&id=a", status: 200, reply: `"state":"healthy"`},
		{name: "no endpoint", method: "GET", path: "/endpoint?cluster=app&id=x", status: 404, reply: `there is no endpoint "x" in cluster app: there is a`},
		{name: "OK drain", method: "POST", path: "/endpoint?cluster=app&id=a&wish=drain&deadline=10m", status: 200, reply: `"admin":"drain 10m0s"`, wish: "drain 10m0s"},
		{name: "OK enable", method: "POST", path: "/endpoint?cluster=app&id=a&wish=enable", status: 200, wish: "enable 0s"},
		{name: "no wish", method: "POST", path: "/endpoint?cluster=app&id=a", status: 400, reply: "wish must be enable, drain or disable"},
		{name: "bad deadline", method: "POST", path: "/endpoint?cluster=app&id=a&wish=drain&deadline=soon", status: 400, reply: `deadline: "soon" is not a time`},
		{name: "deadline in the past", method: "POST", path: "/endpoint?cluster=app&id=a&wish=drain&deadline=-1s", status: 400, reply: "is not a time"},
		{name: "deadline of another wish", method: "POST", path: "/endpoint?cluster=app&id=a&wish=disable&deadline=1s", status: 400, reply: "deadline is only for drain"},
		{name: "change of no endpoint", method: "POST", path: "/endpoint?cluster=b&id=a&wish=drain", status: 404, reply: "there is no endpoint"},
		{name: "refused", method: "POST", path: "/endpoint?cluster=app&id=a&wish=drain", refuse: errors.New("the process is draining"), status: 409, reply: "the process is draining"},
		{name: "not with DELETE", method: "DELETE", path: "/endpoint?cluster=app&id=a", status: 405},

		{name: "OK no tables", method: "GET", path: "/tables", status: 200, reply: "[]"},
		{name: "OK entries", method: "GET", path: "/table?name=t", status: 200, reply: "\"key2\",\"cluster\":\"app\",\"endpoint\":\"a\",\"age_seconds\":0,\"idle_seconds\":0}\n{}\n", query: adminapi.TableQuery{Name: "t"}},
		{
			name: "OK entries chosen", method: "GET", path: "/table?name=t&key=k&cluster=c&endpoint=e&idle_over=1m&idle_under=2m&limit=1", status: 200, reply: "}\n{}\n",
			query: adminapi.TableQuery{Name: "t", Key: "k", Cluster: "c", Endpoint: "e", IdleOver: time.Minute, IdleUnder: 2 * time.Minute, Limit: 1},
		},
		{name: "no table", method: "GET", path: "/table?name=x", status: 404, reply: `there is no table "x"`, query: adminapi.TableQuery{Name: "x"}},
		{name: "bad limit", method: "GET", path: "/table?name=t&limit=0", status: 400, reply: "limit"},
		{name: "cluster alone", method: "GET", path: "/table?name=t&cluster=c", status: 400, reply: "go together"},
		{name: "OK set", method: "POST", path: "/table?name=t&key=k&cluster=app&endpoint=a", status: 200, wish: "t k app a"},
		{name: "set without a key", method: "POST", path: "/table?name=t&cluster=app&endpoint=a", status: 400, reply: "key is missing"},
		{name: "bad key", method: "POST", path: "/table?name=t&key=%5C&cluster=app&endpoint=a", status: 400, reply: "bad key"},
		{name: "clear is refused", method: "DELETE", path: "/table?name=t&key=k", refuse: errors.New("the process is draining"), status: 409, query: adminapi.TableQuery{Name: "t", Key: "k"}},
		{name: "set in no table", method: "POST", path: "/table?name=x&key=k&cluster=app&endpoint=a", status: 404, reply: "there is no table"},
		{name: "OK clear", method: "DELETE", path: "/table?name=t&idle_over=1h", status: 200, reply: `"cleared":3`, query: adminapi.TableQuery{Name: "t", IdleOver: time.Hour}},
		{name: "OK clear all", method: "DELETE", path: "/table?name=t&all=true", status: 200, reply: `"cleared":3`, query: adminapi.TableQuery{Name: "t", All: true}},
		{name: "clear what", method: "DELETE", path: "/table?name=t", status: 400, reply: "all=true drops every entry"},
	} {
		src := newSource()
		src.refuse = tt.refuse
		w := httptest.NewRecorder()
		(&Server{src: src}).api().ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.reply) {
			t.Errorf("%s: %d %s, want %d with %s", tt.name, w.Code, w.Body, tt.status, tt.reply)
		}
		if src.wish != tt.wish || src.query != tt.query {
			t.Errorf("%s: asked for %q %+v", tt.name, src.wish, src.query)
		}
	}
	w := httptest.NewRecorder()
	(&Server{src: newSource()}).metricsAPI().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/endpoint?cluster=app&id=a&wish=drain", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("over TCP: %d", w.Code)
	}
}

// TestManyEntries: a table of more entries than fit into a buffer comes whole, and
// each line can be read by itself.
func TestManyEntries(t *testing.T) {
	src := newSource()
	src.entries = 100_000
	c := adminapi.NewClient(serve(t, src))
	t.Cleanup(c.Close)
	n := 0
	err := c.TableEntries(t.Context(), adminapi.TableQuery{Name: "t"}, func(e adminapi.TableEntry) error {
		if e.Key != fmt.Sprint("key", n) {
			return fmt.Errorf("entry %d is %q", n, e.Key)
		}
		n++
		return nil
	})
	if err != nil || n != src.entries {
		t.Errorf("%d entries, %v", n, err)
	}
}

// TestChangesAreSigned: the daemon hears which user and process wants a change.
func TestChangesAreSigned(t *testing.T) {
	src := newSource()
	c := adminapi.NewClient(serve(t, src))
	t.Cleanup(c.Close)
	want := fmt.Sprintf("uid %d, pid %d", os.Getuid(), os.Getpid())
	for what, change := range map[string]func() error{
		"endpoint": func() error {
			_, err := c.ChangeEndpoint(t.Context(), adminapi.EndpointChange{Cluster: "app", ID: "a", Wish: "drain"})
			return err
		},
		"set": func() error {
			e, err := c.SetTable(t.Context(), "t", "k", "app", "a")
			if err == nil && e != (adminapi.TableEntry{Key: "k", Cluster: "app", Endpoint: "a"}) {
				err = fmt.Errorf("set %+v", e)
			}
			return err
		},
		"clear": func() error {
			n, err := c.ClearTable(t.Context(), adminapi.TableQuery{Name: "t", All: true})
			if err == nil && n != 3 {
				err = fmt.Errorf("%d cleared", n)
			}
			return err
		},
		"drain": func() error { _, err := c.Drain(t.Context(), true); return err },
	} {
		src.by = ""
		if err := change(); err != nil || src.by != want {
			t.Errorf("%s: by %q, want %q: %v", what, src.by, want, err)
		}
	}
}

func TestUnknown(t *testing.T) {
	many := []string{"alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota"}
	for _, tt := range []struct {
		name, want string
		all        []string
	}{
		{"x", `there is no table "x": there is none`, nil},
		{"x", `there is no table "x": there is app, web`, []string{"app", "web"}},
		{"xyz", `there is no table "xyz": there is alpha, beta, gamma, delta, epsilon, zeta, eta, theta and 1 more`, many},
		{"alhpa", `there is no table "alhpa", did you mean "alpha"?`, many},
		{"Gamma", `there is no table "Gamma", did you mean "gamma"?`, many},
		{"eta", `there is no table "eta", did you mean "beta" or "zeta" or "theta"?`, []string{"beta", "zeta", "theta", "x"}},
		{"ab", `there is no table "ab": there is cd`, []string{"cd"}},
		{"", `there is no table "": there is a`, []string{"a"}},
	} {
		if got := Unknown("table", tt.name, "", tt.all).Error(); got != tt.want {
			t.Errorf("%q: %s\nwant %s", tt.name, got, tt.want)
		}
	}
	long := strings.Repeat("x", 10_000)
	if err := Unknown("table", long, "a", []string{long + "y"}); len(err.Error()) > 20_000 {
		t.Errorf("%d bytes", len(err.Error()))
	}
}
